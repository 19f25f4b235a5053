//! A small Redfish service: resources that can be bent into any vendor's shape, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bessemer_hardware::HardwareError;
use bessemer_hardware::redfish::{Machine, Redfish};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(crate) const ISO: &str = "http://images.example/deploy.iso?token=s3same";
pub(crate) const SYSTEM: &str = "/redfish/v1/Systems/1";
pub(crate) const CD: &str = "/redfish/v1/Systems/1/VirtualMedia/Cd";

/// A fault: what the next request whose line begins so is answered.
pub(crate) struct Fault {
    pub(crate) line: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

/// The BMC's insides, for tests to bend and to look at.
#[derive(Default)]
pub(crate) struct Insides {
    pub(crate) resources: BTreeMap<String, Value>,
    pub(crate) faults: VecDeque<Fault>,
    /// `METHOD path`, and the body if there was one.
    pub(crate) requests: Vec<String>,
    /// Accepts resets and carries none out.
    pub(crate) is_stuck: bool,
    /// Refuses changes without exactly this `If-Match`.
    pub(crate) if_match: Option<&'static str>,
    /// What `InsertMedia` must have, and must not have.
    pub(crate) insert_needs: Vec<&'static str>,
    pub(crate) insert_refuses: Vec<&'static str>,
    /// Looks at a drive until what was ordered shows.
    pub(crate) looks_until_shown: usize,
    pending: Option<(String, Value, usize)>,
    /// Wants to know who asks.
    pub(crate) has_login: bool,
    pub(crate) token: Option<String>,
    pub(crate) logins: usize,
    /// Sends every request of a machine there.
    pub(crate) redirect: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Server {
    insides: Arc<Mutex<Insides>>,
    pub(crate) address: String,
}

impl Server {
    /// A service with one machine that is off, as most vendors have it.
    pub(crate) async fn start() -> Self {
        // Another test of this process may have installed it already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let resources = usual().into_iter().map(|(path, value)| (path.to_owned(), value)).collect();
        let insides = Arc::new(Mutex::new(Insides { resources, ..Insides::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&insides));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { insides, address }
    }

    pub(crate) fn insides(&self) -> MutexGuard<'_, Insides> {
        self.insides.lock().unwrap()
    }

    /// Replaces or adds a property, by JSON pointer; `null` removes it.
    pub(crate) fn bend(&self, path: &str, pointer: &str, value: Value) {
        let mut insides = self.insides();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let resource = insides.resources.entry(path.to_owned()).or_insert_with(|| json!({}));
        let parent = resource.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(key);
        } else {
            parent.insert(key.to_owned(), value);
        }
    }

    pub(crate) fn fail(&self, line: &'static str, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        self.insides().faults.push_back(Fault { line, status, body: body.to_owned() });
    }

    pub(crate) fn shows(&self, path: &str, pointer: &str) -> Value {
        self.insides().resources[path].pointer(pointer).cloned().unwrap_or_default()
    }

    /// The requests that changed something, or were to.
    pub(crate) fn orders(&self) -> Vec<String> {
        let insides = self.insides();
        insides.requests.iter().filter(|line| !line.starts_with("GET")).cloned().collect()
    }

    pub(crate) fn machine(&self) -> Machine {
        self.machine_with(&Redfish::new(Some(ISO.to_owned())), json!({}))
    }

    pub(crate) fn machine_with(&self, redfish: &Redfish, change: Value) -> Machine {
        let mut info = json!({"redfish_address": self.address});
        info.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
        redfish.machine(info.as_object().unwrap()).unwrap()
    }
}

/// Repeats an operation as a conductor does, and returns the errors on the way to its success or final error.
pub(crate) async fn persist<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, HardwareError>,
) -> (Result<T, String>, Vec<String>) {
    let mut passing = Vec::new();
    loop {
        match attempt().await {
            Ok(done) => return (Ok(done), passing),
            Err(error) if error.is_retryable() && passing.len() < 5 => {
                passing.push(error.to_string());
            }
            Err(error) => return (Err(error.to_string()), passing),
        }
    }
}

fn usual() -> Vec<(&'static str, Value)> {
    let link = |path: &str| json!({"@odata.id": path});
    vec![
        (
            "/redfish/v1/",
            json!({
                "Systems": link("/redfish/v1/Systems"),
                "Links": {"Sessions": link("/redfish/v1/SessionService/Sessions")},
            }),
        ),
        ("/redfish/v1/Systems", json!({"Members": [link(SYSTEM)]})),
        (
            SYSTEM,
            json!({
                "PowerState": "Off",
                "Boot": {
                    "BootSourceOverrideEnabled": "Disabled",
                    "BootSourceOverrideTarget": "None",
                    "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Cd", "Hdd"],
                    "BootSourceOverrideMode": "UEFI",
                },
                "VirtualMedia": link("/redfish/v1/Systems/1/VirtualMedia"),
                "Links": {"ManagedBy": [link("/redfish/v1/Managers/1")]},
                "Actions": {"#ComputerSystem.Reset": {
                    "target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
                    "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart"],
                }},
            }),
        ),
        ("/redfish/v1/Systems/1/VirtualMedia", json!({"Members": [link(CD)]})),
        ("/redfish/v1/Managers/1", json!({})),
        (CD, drive(CD)),
    ]
}

/// An empty drive for CDs.
pub(crate) fn drive(path: &str) -> Value {
    json!({
        "MediaTypes": ["CD", "DVD"], "Image": "", "Inserted": false,
        "Actions": {
            "#VirtualMedia.InsertMedia": {"target": format!("{path}/Actions/VirtualMedia.InsertMedia")},
            "#VirtualMedia.EjectMedia": {"target": format!("{path}/Actions/VirtualMedia.EjectMedia")},
        },
    })
}

/// An error as DSP0266 8.6 has it.
pub(crate) fn refusal(message: &str) -> String {
    json!({"error": {"message": "see extended", "@Message.ExtendedInfo": [{"Message": message}]}})
        .to_string()
}

async fn answer(State(insides): State<Arc<Mutex<Insides>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = parts.uri.path();
    let mut insides = insides.lock().unwrap();
    let (status, content, token) = insides.answer(&parts.method, path, &parts.headers, &body);
    let mut response = Response::builder().status(status);
    if let Some(token) = token {
        response = response.header("X-Auth-Token", token);
    }
    if let Some(place) = insides.redirect.as_ref().filter(|_| status.is_redirection()) {
        response = response.header("Location", format!("{place}{path}"));
    }
    response.body(Body::from(content)).unwrap()
}

type Reply = (StatusCode, String, Option<String>);

fn reply(status: StatusCode, message: &str) -> Reply {
    (status, refusal(message), None)
}

impl Insides {
    fn answer(&mut self, method: &Method, path: &str, headers: &HeaderMap, body: &Value) -> Reply {
        let line = format!("{method} {path}");
        let sent = if body.is_null() { String::new() } else { format!(" {body}") };
        self.requests.push(format!("{line}{sent}"));
        if let Some(place) = self.faults.iter().position(|fault| line.starts_with(fault.line)) {
            let fault = self.faults.remove(place).unwrap();
            return (fault.status, fault.body, None);
        }
        if path.ends_with("/Sessions") {
            return self.log_in(body);
        }
        let token = headers.get("X-Auth-Token").and_then(|token| token.to_str().ok());
        let is_known = token.is_some_and(|token| self.token.as_deref() == Some(token))
            // admin:secret
            || headers.get("Authorization").is_some_and(|it| it == "Basic YWRtaW46c2VjcmV0");
        if self.has_login && path != "/redfish/v1/" && !is_known {
            return reply(StatusCode::UNAUTHORIZED, "While accessing it, who are you?");
        }
        if self.redirect.is_some() && path != "/redfish/v1/" {
            return reply(StatusCode::TEMPORARY_REDIRECT, "elsewhere");
        }
        self.show_what_is_due(path);
        match (method.as_str(), path.rsplit_once("/Actions/")) {
            ("GET", _) => match self.resources.get(path) {
                Some(resource) => (StatusCode::OK, resource.to_string(), None),
                None => reply(StatusCode::NOT_FOUND, "no such resource"),
            },
            ("PATCH", _) => self.patch(path, headers, body),
            ("POST", Some((owner, "ComputerSystem.Reset"))) => self.reset(owner, body),
            ("POST", Some((drive, "VirtualMedia.InsertMedia"))) => self.insert(drive, body),
            ("POST", Some((drive, "VirtualMedia.EjectMedia"))) => {
                self.change_drive(drive, json!({"Image": "", "Inserted": false}))
            }
            _ => reply(StatusCode::METHOD_NOT_ALLOWED, "not that"),
        }
    }

    fn log_in(&mut self, body: &Value) -> Reply {
        if *body != json!({"UserName": "admin", "Password": "secret"}) {
            let message = format!("wrong password {}", body["Password"]);
            return reply(StatusCode::UNAUTHORIZED, &message);
        }
        self.logins += 1;
        let token = format!("token-{}", self.logins);
        self.token = Some(token.clone());
        (StatusCode::CREATED, "{}".to_owned(), Some(token))
    }

    fn reset(&mut self, system: &str, body: &Value) -> Reply {
        let state = match body["ResetType"].as_str().unwrap() {
            "On" | "ForceOn" => "On",
            "ForceOff" => "Off",
            other => return reply(StatusCode::BAD_REQUEST, &format!("{other} is not supported")),
        };
        if !self.is_stuck {
            self.resources.get_mut(system).unwrap()["PowerState"] = state.into();
        }
        (StatusCode::NO_CONTENT, String::new(), None)
    }

    fn insert(&mut self, drive: &str, body: &Value) -> Reply {
        if let Some(missing) = self.insert_needs.iter().find(|key| body.get(*key).is_none()) {
            return reply(StatusCode::BAD_REQUEST, &format!("{missing} is required"));
        }
        if let Some(unknown) = self.insert_refuses.iter().find(|key| body.get(*key).is_some()) {
            return reply(StatusCode::BAD_REQUEST, &format!("{unknown} is not known"));
        }
        if self.resources[drive]["Inserted"] == true {
            return reply(StatusCode::BAD_REQUEST, "the drive is in use");
        }
        self.change_drive(drive, json!({"Image": body["Image"], "Inserted": true}))
    }

    fn change_drive(&mut self, drive: &str, change: Value) -> Reply {
        self.pending = Some((drive.to_owned(), change, self.looks_until_shown));
        self.show_what_is_due("");
        (StatusCode::NO_CONTENT, String::new(), None)
    }

    /// Carries an order to a drive out when it was looked at often enough.
    fn show_what_is_due(&mut self, path: &str) {
        if let Some((drive, change, looks)) = &mut self.pending {
            if *looks == 0 {
                merge(self.resources.get_mut(drive).unwrap(), change);
                self.pending = None;
            } else if drive == path {
                *looks -= 1;
            }
        }
    }

    fn patch(&mut self, path: &str, headers: &HeaderMap, body: &Value) -> Reply {
        let given = headers.get("If-Match").and_then(|etag| etag.to_str().ok());
        if self.if_match.is_some() && given != self.if_match {
            return reply(StatusCode::PRECONDITION_FAILED, "it has changed");
        }
        merge(self.resources.get_mut(path).unwrap(), body);
        (StatusCode::NO_CONTENT, String::new(), None)
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into.as_object_mut(), from) {
        (Some(object), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(object.entry(key).or_insert(Value::Null), change);
            }
        }
        _ => *into = from.clone(),
    }
}
