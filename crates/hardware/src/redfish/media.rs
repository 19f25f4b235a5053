//! Virtual media (DSP0268, `VirtualMedia`).

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde_json::{Map, Value, json};

use super::resource::Resource;
use super::service::Service;
use crate::poll::until;
use crate::{Entitled, HardwareError};

/// How long a BMC may take to show a medium as inserted or gone: Ironic's limit.
const MEDIUM_LIMIT: Duration = Duration::from_secs(60);

/// What a drive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// A CD or DVD, from which machines boot.
    Cd,
    /// A USB stick.
    UsbStick,
}

impl Medium {
    const fn types(self) -> &'static [&'static str] {
        match self {
            Self::Cd => &["CD", "DVD"],
            Self::UsbStick => &["USBStick"],
        }
    }
}

/// A virtual drive.
pub(super) struct Drive {
    pub(super) resource: Resource,
    types: Vec<String>,
}

impl Drive {
    pub(super) fn takes(&self, medium: Medium) -> bool {
        let is_one = |of: &String| medium.types().iter().any(|it| of.eq_ignore_ascii_case(it));
        self.types.iter().any(is_one)
    }
}

const INSERT: &str = "/Actions/#VirtualMedia.InsertMedia/target";
const EJECT: &str = "/Actions/#VirtualMedia.EjectMedia/target";

/// The virtual drives that take CDs or USB sticks: the system's, or else its managers', where they were before Redfish 2021.
pub(super) async fn drives(
    service: &Service,
    system: &Resource,
) -> Result<Vec<Drive>, HardwareError> {
    let drives = drives_of(service, system).await?;
    if drives.iter().any(|drive| drive.takes(Medium::Cd)) {
        return Ok(drives);
    }
    for path in system.links("/Links/ManagedBy")? {
        let manager = service.get(&path).await?;
        let drives = drives_of(service, &manager).await?;
        if drives.iter().any(|drive| drive.takes(Medium::Cd)) {
            return Ok(drives);
        }
    }
    Ok(Vec::new())
}

async fn drives_of(service: &Service, owner: &Resource) -> Result<Vec<Drive>, HardwareError> {
    let mut drives = Vec::new();
    let Some(path) = owner.link("/VirtualMedia")? else { return Ok(drives) };
    let Some(collection) = service.find(path).await? else { return Ok(drives) };
    for path in collection.links("/Members")? {
        let resource = service.get(&path).await?;
        let types = resource.texts("/MediaTypes")?.unwrap_or_default();
        let drive = Drive { types: types.into_iter().map(str::to_owned).collect(), resource };
        if [Medium::Cd, Medium::UsbStick].into_iter().any(|medium| drive.takes(medium)) {
            drives.push(drive);
        }
    }
    Ok(drives)
}

/// Has the image in one of the drives, whose path is returned, and no medium in any other of them.
pub(super) async fn insert(
    service: &Service,
    system: &Resource,
    drives: Vec<&Drive>,
    medium: Medium,
    iso: &str,
    entitled: Entitled<'_>,
) -> Result<String, HardwareError> {
    let drives: Vec<_> = drives.into_iter().map(|drive| &drive.resource).collect();
    let mut chosen = None;
    for drive in &drives {
        if is_inserted(drive)? && drive.text("/Image")? == Some(iso) {
            chosen = Some(*drive);
        }
    }
    let is_there = chosen.is_some();
    let Some(chosen) = chosen.or_else(|| drives.first().copied()) else {
        let words = match medium {
            Medium::Cd => "neither the system nor its managers have a virtual drive for CDs",
            Medium::UsbStick => {
                "there is no second virtual drive, for a USB stick, in which a config drive could be"
            }
        };
        return Err(system.request.failed(words, false));
    };
    for drive in &drives {
        if !is_there || drive.path != chosen.path {
            eject(service, drive, entitled).await?;
        }
    }
    if is_there {
        return Ok(chosen.path.clone());
    }
    let answer = match chosen.text(INSERT)? {
        Some(target) => insert_by_action(service, target, iso, entitled).await?,
        None => {
            let body = json!({"Image": iso, "Inserted": true, "WriteProtected": true});
            // Read again: to eject the medium that was there has changed the drive's ETag.
            let chosen = service.get(&chosen.path).await?;
            service.patch(&chosen, &body, entitled).await?.accepted()?.request
        }
    };
    wait_until(service, chosen, true).await?.ok_or_else(|| {
        let limit = MEDIUM_LIMIT.as_secs();
        answer.failed(format!("accepted, but {limit} s later the drive shows no medium"), true)
    })?;
    Ok(chosen.path.clone())
}

/// BMCs differ in the optional parameters that they know and in those that they demand, and name them when they refuse:
/// what was sent is left out then, what was not is added.
async fn insert_by_action(
    service: &Service,
    target: &str,
    iso: &str,
    entitled: Entitled<'_>,
) -> Result<super::answer::Request, HardwareError> {
    let scheme = Url::parse(iso).map(|url| url.scheme().to_ascii_uppercase()).unwrap_or_default();
    let mut optional = vec![
        ("TransferProtocolType", json!(scheme)),
        ("TransferMethod", json!("Stream")),
        ("WriteProtected", json!(true)),
        ("Inserted", json!(true)),
    ];
    let mut body = Map::from_iter([("Image".to_owned(), json!(iso))]);
    for (key, value) in &optional[2..] {
        body.insert((*key).to_owned(), value.clone());
    }
    loop {
        let answer = service.post(target, &Value::Object(body.clone()), entitled).await?;
        let words = answer.words_and_arguments();
        let named = optional.iter().position(|(key, _)| words.contains(key));
        match named {
            Some(place) if answer.status == StatusCode::BAD_REQUEST => {
                let (key, value) = optional.remove(place);
                if body.remove(key).is_none() {
                    body.insert(key.to_owned(), value);
                }
            }
            _ => return Ok(answer.accepted()?.request),
        }
    }
}

/// Has no medium in any of the drives.
pub(super) async fn eject_all(
    service: &Service,
    drives: impl Iterator<Item = &Drive>,
    entitled: Entitled<'_>,
) -> Result<(), HardwareError> {
    for drive in drives {
        eject(service, &drive.resource, entitled).await?;
    }
    Ok(())
}

async fn eject(
    service: &Service,
    drive: &Resource,
    entitled: Entitled<'_>,
) -> Result<(), HardwareError> {
    if !is_inserted(drive)? {
        return Ok(());
    }
    let answer = match drive.text(EJECT)? {
        Some(target) => service.post(target, &json!({}), entitled).await?,
        None => service.patch(drive, &json!({"Image": null, "Inserted": false}), entitled).await?,
    };
    let request = answer.accepted()?.request;
    wait_until(service, drive, false).await?.ok_or_else(|| {
        let limit = MEDIUM_LIMIT.as_secs();
        request.failed(format!("accepted, but {limit} s later the medium is still there"), true)
    })
}

/// Waits until the drive has a medium, or none.
async fn wait_until(
    service: &Service,
    drive: &Resource,
    inserted: bool,
) -> Result<Option<()>, HardwareError> {
    let look = || async {
        let drive = service.get(&drive.path).await?;
        Ok((is_inserted(&drive)? == inserted).then_some(()))
    };
    until(MEDIUM_LIMIT, look).await
}

/// BMCs that know no `Inserted` have an `Image` while there is one.
fn is_inserted(drive: &Resource) -> Result<bool, HardwareError> {
    let image = drive.text("/Image")?.is_some_and(|image| !image.is_empty());
    Ok(drive.flag("/Inserted")?.unwrap_or(image))
}
