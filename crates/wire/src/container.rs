//! Containers that install themselves, as deploy interface `bootc` has them.

use bessemer_domain::node::{BootcOptions, INSTALL_LOG_BYTES_MAX, InstallReport, PinnedContainer};
use bessemer_proto::v1;

/// What the container is told, as a message.
#[must_use]
pub fn options_to_proto(options: &BootcOptions) -> v1::BootcOptions {
    let BootcOptions { authorized_keys, tpm2_luks } = options.clone();
    v1::BootcOptions { authorized_keys, tpm2_luks }
}

/// What the container is told. The request as a whole is checked elsewhere.
#[must_use]
pub fn options_from_proto(options: &v1::BootcOptions) -> BootcOptions {
    let v1::BootcOptions { authorized_keys, tpm2_luks } = options.clone();
    BootcOptions { authorized_keys, tpm2_luks }
}

/// The container that is meant, as a message.
#[must_use]
pub fn pinned_to_proto(container: &PinnedContainer) -> v1::PinnedContainer {
    let PinnedContainer { reference, insecure } = container.clone();
    v1::PinnedContainer { reference, insecure }
}

/// The container that is meant.
#[must_use]
pub fn pinned_from_proto(container: v1::PinnedContainer) -> PinnedContainer {
    let v1::PinnedContainer { reference, insecure } = container;
    PinnedContainer { reference, insecure }
}

/// What became of a container, as a message.
#[must_use]
pub fn report_to_proto(report: &InstallReport) -> v1::InstallReport {
    let duration = std::time::Duration::from_millis(report.duration_milliseconds);
    v1::InstallReport {
        device: report.device.clone(),
        duration: duration.try_into().ok(),
        log: report.log.clone(),
    }
}

/// What became of a container. Of a log that is too long, the end is kept.
#[must_use]
pub fn report_from_proto(report: v1::InstallReport) -> InstallReport {
    let duration = report.duration.and_then(|it| std::time::Duration::try_from(it).ok());
    let milliseconds = duration.unwrap_or_default().as_millis();
    let mut begin = report.log.len().saturating_sub(INSTALL_LOG_BYTES_MAX);
    while !report.log.is_char_boundary(begin) {
        begin += 1;
    }
    InstallReport {
        device: report.device,
        duration_milliseconds: u64::try_from(milliseconds).unwrap_or(u64::MAX),
        log: report.log[begin..].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back_and_a_long_log_ends_where_it_ended() {
        let options = BootcOptions { authorized_keys: "ssh-rsa A".to_owned(), tpm2_luks: true };
        assert_eq!(options_from_proto(&options_to_proto(&options)), options);
        let container = PinnedContainer { reference: "h/r@sha256:ab".to_owned(), insecure: true };
        assert_eq!(pinned_from_proto(pinned_to_proto(&container)), container);
        let report = |log: String| InstallReport {
            device: "sda".to_owned(),
            duration_milliseconds: 1234,
            log,
        };
        let short = report("done".to_owned());
        assert_eq!(report_from_proto(report_to_proto(&short)), short);
        let kept =
            report_from_proto(report_to_proto(&report("ä".repeat(INSTALL_LOG_BYTES_MAX) + "!")));
        assert!(kept.log.len() <= INSTALL_LOG_BYTES_MAX && kept.log.ends_with("ä!"));
    }
}
