//! Who somebody is: a role and a name, as a certificate or a line of the token file has it.

use std::fmt;
use std::str::FromStr;

/// How the URI begins by which a certificate says what its holder is.
const SCHEME: &str = "bessemer://";

/// Longest name of anybody, as long as an actor in the history may be.
const NAME_BYTES_MAX: usize = 200;

/// What somebody is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A person who may do everything.
    Admin,
    /// A person who works with nodes and images, and leaves the cluster as it is.
    Operator,
    /// A person, or a program, who looks and changes nothing.
    Reader,
    /// A member of the API: speaks Raft with the others, and passes on what people want of image caches.
    Member,
    /// A conductor: claims nodes and reports.
    Conductor,
    /// An image cache: copies images from its peers.
    ImageCache,
    /// An agent: speaks for the node that its token is bound to.
    Agent,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Admin,
        Self::Operator,
        Self::Reader,
        Self::Member,
        Self::Conductor,
        Self::ImageCache,
        Self::Agent,
    ];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Conductor => "conductor",
            Self::ImageCache => "image-cache",
            Self::Agent => "agent",
        }
    }

    /// Whether it is a person's, who may come with a token.
    #[must_use]
    pub const fn is_of_a_person(self) -> bool {
        matches!(self, Self::Admin | Self::Operator | Self::Reader)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` {reason}")]
pub struct InvalidIdentity {
    /// As it was given.
    pub given: String,
    /// What is wrong with it; reads on from it.
    pub reason: &'static str,
}

impl FromStr for Role {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| InvalidIdentity {
            given: text.to_owned(),
            reason: "is no role; there are admin, operator, reader, member, conductor, image-cache and agent",
        })
    }
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What it is here for.
    pub role: Role,
    /// Its name, as the history tells it.
    pub name: String,
    /// Of a person: whose nodes it sees, by their `owner` or `lessee`; all nodes without one.
    pub project: Option<String>,
}

impl Identity {
    /// Somebody of that name.
    ///
    /// # Errors
    /// [`InvalidIdentity`] when the name or project is not of letters, digits, `-`, `_`, `.`, `@`, or a service has a project.
    pub fn try_new(role: Role, name: &str, project: Option<&str>) -> Result<Self, InvalidIdentity> {
        for text in [Some(name), project].into_iter().flatten() {
            let is_plain =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
            if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(is_plain) {
                return Err(InvalidIdentity {
                    given: text.to_owned(),
                    reason: "is not 1 to 200 letters, digits, `-`, `_`, `.` and `@`",
                });
            }
        }
        if let Some(project) = project.filter(|_| !role.is_of_a_person()) {
            return Err(InvalidIdentity {
                given: project.to_owned(),
                reason: "is a project, which only an admin, operator or reader can have",
            });
        }
        Ok(Self { role, name: name.to_owned(), project: project.map(str::to_owned) })
    }

    /// As a certificate has it: `bessemer://operator/bob?project=team-a`.
    #[must_use]
    pub fn uri(&self) -> String {
        match &self.project {
            None => format!("{SCHEME}{}/{}", self.role, self.name),
            Some(project) => format!("{SCHEME}{}/{}?project={project}", self.role, self.name),
        }
    }

    /// The one that a certificate's URIs tell; none when there is not exactly one of ours.
    #[must_use]
    pub fn of_uris(uris: &[String]) -> Option<Self> {
        let mut ours = uris.iter().filter(|uri| uri.starts_with(SCHEME));
        match (ours.next(), ours.next()) {
            (Some(uri), None) => uri.parse().ok(),
            _ => None,
        }
    }

    /// As history has it: people by their names, services with what they are.
    #[must_use]
    pub fn actor(&self) -> String {
        if self.role.is_of_a_person() {
            self.name.clone()
        } else {
            format!("{}/{}", self.role, self.name)
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)?;
        match &self.project {
            None => Ok(()),
            Some(project) => write!(f, " of project {project}"),
        }
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    /// From what [`Self::uri`] writes.
    fn from_str(uri: &str) -> Result<Self, InvalidIdentity> {
        let wrong = || InvalidIdentity {
            given: uri.to_owned(),
            reason: "is not of the form bessemer://ROLE/NAME or bessemer://ROLE/NAME?project=PROJECT",
        };
        let rest = uri.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (role, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (name, project) = match rest.split_once('?') {
            None => (rest, None),
            Some((name, query)) => (name, Some(query.strip_prefix("project=").ok_or_else(wrong)?)),
        };
        Self::try_new(role.parse()?, name, project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_who_somebody_is_and_nothing_else_does() {
        for uri in [
            "bessemer://admin/alice",
            "bessemer://operator/bob?project=team-a",
            "bessemer://member/1",
            "bessemer://image-cache/cache-1.example.org",
        ] {
            assert_eq!(uri.parse::<Identity>().unwrap().uri(), uri);
        }
        for wrong in [
            "",
            "alice",
            "https://admin/alice",
            "bessemer://admin",
            "bessemer://admin/",
            "bessemer://root/alice",
            "bessemer://admin/a/b",
            "bessemer://admin/a b",
            "bessemer://admin/alice?project=",
            "bessemer://admin/alice?role=admin",
            "bessemer://conductor/c1?project=team-a",
        ] {
            wrong.parse::<Identity>().unwrap_err();
        }
    }

    #[test]
    fn a_certificate_with_two_identities_has_none() {
        let uris = |uris: &[&str]| uris.iter().map(|uri| (*uri).to_owned()).collect::<Vec<_>>();
        let one = uris(&["spiffe://x/y", "bessemer://admin/alice"]);
        assert_eq!(Identity::of_uris(&one).unwrap().actor(), "alice");
        assert_eq!(Identity::of_uris(&uris(&["bessemer://admin/a", "bessemer://reader/a"])), None);
        assert_eq!(Identity::of_uris(&[]), None);
    }

    #[test]
    fn no_person_has_the_name_of_a_service_in_history() {
        let service = "bessemer://conductor/c1".parse::<Identity>().unwrap().actor();
        assert_eq!(service, "conductor/c1");
        Identity::try_new(Role::Admin, &service, None).unwrap_err();
    }
}
