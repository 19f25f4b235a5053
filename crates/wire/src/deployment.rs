//! Deployments: requests in, requests and what was found out about them out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bessemer_domain::Invalid;
use bessemer_domain::node::{
    ConfigDrive, DeployInterface, Deployment, DeploymentSpec, DiskFormat, EphemeralFormat,
    ImageChecksum, ImageDownloadSource, ImageInput, ImageSpec, ImageType, JsonMap,
    KernelAndRamdisk, PartitionInput, PartitionLayout, ResolvedImage, WriteReport,
};
use bessemer_proto::v1;
use prost_types::Struct;

use crate::text::{SHORT_CHARACTERS_MAX, bounded};
use crate::{container, json, step, time};

/// Longest URL of an image or checksum file; what servers and proxies take.
const URL_CHARACTERS_MAX: usize = 8192;

/// Most root device hints; Ironic knows twelve.
const ROOT_DEVICE_HINTS_MAX: usize = 32;

/// The deployment as a message.
#[must_use]
pub fn to_proto(deployment: &Deployment) -> v1::Deployment {
    v1::Deployment {
        id: deployment.id.to_string(),
        spec: Some(spec_to_proto(&deployment.spec)),
        requested_at: Some(time::to_proto(deployment.requested_at)),
        image: deployment.image.as_ref().map(resolved_image_to_proto),
        write: deployment.write.as_ref().map(write_report_to_proto),
        container: deployment.container.as_ref().map(container::pinned_to_proto),
        install: deployment.install.as_ref().map(container::report_to_proto),
    }
}

/// The request as a message.
#[must_use]
pub fn spec_to_proto(spec: &DeploymentSpec) -> v1::DeploymentSpec {
    let image_type =
        if spec.partitions.is_some() { ImageType::Partition } else { ImageType::WholeDisk };
    let boot = spec.network_boot.as_ref();
    v1::DeploymentSpec {
        image: spec.image.as_ref().map(|image| v1::ImageSpec {
            image_type: image_type.as_str().to_owned(),
            ..image_spec_to_proto(image)
        }),
        deploy_interface: spec.deploy_interface.as_str().to_owned(),
        image_download_source: spec.image_download_source.as_str().to_owned(),
        config_drive: spec.config_drive.as_ref().map(config_drive_to_proto),
        root_device: spec.root_device.clone().into_iter().collect(),
        partitions: spec.partitions.as_ref().map(partitions_to_proto),
        deploy_steps: spec.deploy_steps.iter().map(step::masked_to_proto).collect(),
        boot_iso: spec.boot_iso.clone().unwrap_or_default(),
        kernel: boot.map_or_else(String::new, |boot| boot.kernel.clone()),
        ramdisk: boot.map_or_else(String::new, |boot| boot.ramdisk.clone()),
        kernel_arguments: boot.map_or_else(String::new, |boot| boot.arguments.to_string()),
        traits: Vec::new(),
        bootc: spec.bootc.as_ref().map(container::options_to_proto),
    }
}

/// The layout as a message.
#[must_use]
pub fn partitions_to_proto(layout: &PartitionLayout) -> v1::PartitionLayout {
    let ephemeral = layout.ephemeral.as_ref();
    v1::PartitionLayout {
        root_gb: layout.root_gib.unwrap_or_default(),
        swap_mb: layout.swap_mib.unwrap_or_default(),
        ephemeral_gb: ephemeral.map_or(0, |ephemeral| ephemeral.size_gib),
        ephemeral_format: ephemeral
            .map_or("", |ephemeral| EphemeralFormat::as_str(ephemeral.format))
            .to_owned(),
        preserve_ephemeral: ephemeral.is_some_and(|ephemeral| ephemeral.preserve),
    }
}

/// Checks a layout.
///
/// # Errors
/// [`Invalid`] with the field's path from the layout.
pub fn partitions_from_proto(layout: &v1::PartitionLayout) -> Result<PartitionLayout, Invalid> {
    PartitionLayout::try_new(&PartitionInput {
        root_gb: layout.root_gb,
        swap_mb: layout.swap_mb,
        ephemeral_gb: layout.ephemeral_gb,
        ephemeral_format: &layout.ephemeral_format,
        preserve_ephemeral: layout.preserve_ephemeral,
    })
}

/// Checks a request as far as it can be without its node's state. `default_interface` is the node's.
///
/// # Errors
/// [`Invalid`] with the field's path from `deployment`.
pub fn spec_from_proto(
    spec: &v1::DeploymentSpec,
    default_interface: DeployInterface,
) -> Result<DeploymentSpec, Invalid> {
    checked_spec(spec, default_interface).map_err(|invalid| invalid.under("deployment"))
}

fn checked_spec(
    spec: &v1::DeploymentSpec,
    default_interface: DeployInterface,
) -> Result<DeploymentSpec, Invalid> {
    if spec.root_device.len() > ROOT_DEVICE_HINTS_MAX {
        let reason = format!("holds more than {ROOT_DEVICE_HINTS_MAX} hints");
        return Err(Invalid::new("root_device", &spec.root_device.len().to_string(), reason));
    }
    for (hint, value) in &spec.root_device {
        bounded(&format!("root_device.{hint}"), value, SHORT_CHARACTERS_MAX)?;
    }
    let checked = DeploymentSpec {
        image: spec
            .image
            .as_ref()
            .map(image_spec_from_proto)
            .transpose()
            .map_err(|invalid| invalid.under("image"))?,
        deploy_interface: match spec.deploy_interface.as_str() {
            "" => default_interface,
            name => name.parse()?,
        },
        image_download_source: match spec.image_download_source.as_str() {
            "" => ImageDownloadSource::default(),
            name => name.parse()?,
        },
        config_drive: spec.config_drive.as_ref().map(config_drive_from_proto).transpose()?,
        root_device: spec.root_device.clone().into_iter().collect(),
        partitions: checked_partitions(spec.image.as_ref(), spec.partitions.as_ref())?,
        deploy_steps: step::requested_from_proto("deploy_steps", &spec.deploy_steps)?,
        boot_iso: Some(bounded("boot_iso", &spec.boot_iso, URL_CHARACTERS_MAX)?)
            .filter(|iso| !iso.is_empty()),
        bootc: spec.bootc.as_ref().map(container::options_from_proto),
        network_boot: network_boot(spec)?,
    };
    checked.check()?;
    Ok(checked)
}

/// A kernel and its ramdisk: both or neither, and arguments only for them.
fn network_boot(spec: &v1::DeploymentSpec) -> Result<Option<KernelAndRamdisk>, Invalid> {
    let boot = KernelAndRamdisk {
        kernel: bounded("kernel", &spec.kernel, URL_CHARACTERS_MAX)?,
        ramdisk: bounded("ramdisk", &spec.ramdisk, URL_CHARACTERS_MAX)?,
        arguments: spec.kernel_arguments.parse()?,
    };
    let lacking = |field, for_what: &str| {
        Err(Invalid::new(field, "", format!("is required with {for_what}, which is given")))
    };
    match (boot.kernel.is_empty(), boot.ramdisk.is_empty()) {
        (false, false) => Ok(Some(boot)),
        (true, false) => lacking("kernel", "ramdisk"),
        (false, true) => lacking("ramdisk", "kernel"),
        (true, true) if boot.arguments.as_str().is_empty() => Ok(None),
        (true, true) => lacking("kernel", "kernel_arguments"),
    }
}

/// The layout for an image of type `partition`; none for a whole disk, which brings its own.
fn checked_partitions(
    image: Option<&v1::ImageSpec>,
    asked: Option<&v1::PartitionLayout>,
) -> Result<Option<PartitionLayout>, Invalid> {
    let image_type: ImageType = image
        .map_or("", |image| &image.image_type)
        .parse()
        .map_err(|invalid: Invalid| invalid.under("image"))?;
    match (image_type, asked) {
        (ImageType::WholeDisk, None) => Ok(None),
        (ImageType::WholeDisk, Some(_)) => Err(Invalid::new(
            "partitions",
            "",
            "is given, but a whole-disk image has its own partitions; set image.image_type to `partition` \
             if the image is a file system",
        )),
        (ImageType::Partition, asked) => {
            let layout = asked.cloned().unwrap_or_default();
            partitions_from_proto(&layout).map(Some).map_err(|invalid| invalid.under("partitions"))
        }
    }
}

/// The image as a message, whatever it is used for. A digest comes out as `os_hash_algo` and `os_hash_value`, whichever way it came in.
#[must_use]
pub fn image_spec_to_proto(image: &ImageSpec) -> v1::ImageSpec {
    let (mut checksum, mut os_hash_algo, mut os_hash_value) = Default::default();
    match &image.checksum {
        Some(ImageChecksum::Digest { algorithm, value }) => {
            algorithm.as_str().clone_into(&mut os_hash_algo);
            os_hash_value = value.clone();
        }
        Some(ImageChecksum::File { url }) => checksum = url.clone(),
        None => {}
    }
    v1::ImageSpec {
        source: image.source.clone(),
        checksum,
        os_hash_algo,
        os_hash_value,
        disk_format: image.disk_format.map_or("", DiskFormat::as_str).to_owned(),
        image_type: String::new(),
    }
}

/// Checks an image by Ironic's rules.
///
/// # Errors
/// [`Invalid`] with the field's path from the image.
pub fn image_spec_from_proto(image: &v1::ImageSpec) -> Result<ImageSpec, Invalid> {
    bounded("source", &image.source, URL_CHARACTERS_MAX)?;
    bounded("checksum", &image.checksum, URL_CHARACTERS_MAX)?;
    bounded("os_hash_value", &image.os_hash_value, URL_CHARACTERS_MAX)?;
    ImageSpec::try_new(&ImageInput {
        source: &image.source,
        checksum: &image.checksum,
        os_hash_algo: &image.os_hash_algo,
        os_hash_value: &image.os_hash_value,
        disk_format: &image.disk_format,
        image_type: &image.image_type,
    })
}

fn config_drive_to_proto(drive: &ConfigDrive) -> v1::ConfigDrive {
    v1::ConfigDrive {
        meta_data: Some(json::to_proto(&drive.meta_data)),
        network_data: drive.network_data.as_ref().map(json::to_proto),
        // The domain holds only what `config_drive_from_proto` encoded.
        user_data: drive
            .user_data
            .as_ref()
            .and_then(|encoded| BASE64.decode(encoded).ok())
            .unwrap_or_default(),
        vendor_data: drive.vendor_data.as_ref().map(json::to_proto),
    }
}

/// Sizes are bounded by `DeploymentSpec::check`, over all parts together.
fn config_drive_from_proto(drive: &v1::ConfigDrive) -> Result<ConfigDrive, Invalid> {
    let object = |name: &str, object: &Option<Struct>| -> Result<Option<JsonMap>, Invalid> {
        let field = format!("config_drive.{name}");
        object.as_ref().map(|object| json::object_from_proto(&field, object)).transpose()
    };
    Ok(ConfigDrive {
        meta_data: object("meta_data", &drive.meta_data)?.unwrap_or_default(),
        network_data: object("network_data", &drive.network_data)?,
        user_data: Some(&drive.user_data)
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| BASE64.encode(bytes)),
        vendor_data: object("vendor_data", &drive.vendor_data)?,
    })
}

/// What the image cache made of a source, as a message.
#[must_use]
pub fn resolved_image_to_proto(image: &ResolvedImage) -> v1::ResolvedImage {
    v1::ResolvedImage {
        id: image.id.clone(),
        source_format: image.source_format.clone(),
        raw_size_bytes: image.raw_size_bytes,
        raw_hash_algo: image.raw_hash_algo.clone(),
        raw_hash_value: image.raw_hash_value.clone(),
        pack_size_bytes: image.pack_size_bytes,
    }
}

/// What the image cache made of a source.
#[must_use]
pub fn resolved_image_from_proto(image: v1::ResolvedImage) -> ResolvedImage {
    ResolvedImage {
        id: image.id,
        source_format: image.source_format,
        raw_size_bytes: image.raw_size_bytes,
        raw_hash_algo: image.raw_hash_algo,
        raw_hash_value: image.raw_hash_value,
        pack_size_bytes: image.pack_size_bytes,
    }
}

/// How a disk was written, as a message.
#[must_use]
pub fn write_report_to_proto(report: &WriteReport) -> v1::WriteReport {
    let milliseconds = report.duration_milliseconds;
    v1::WriteReport {
        device: report.device.clone(),
        image_bytes: report.image_bytes,
        wire_bytes: report.wire_bytes,
        refused_chunks: report.refused_chunks,
        resumed_bytes: report.resumed_bytes,
        duration: Some(prost_types::Duration {
            seconds: i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX),
            nanos: i32::try_from(milliseconds % 1000 * 1_000_000)
                .expect("a remainder of one second is below 10^9 nanoseconds"),
        }),
        agent_peak_rss_bytes: report.agent_peak_rss_bytes,
        root_uuid: report.root_uuid.clone().unwrap_or_default(),
    }
}

/// How a disk was written. A duration that is missing or below zero counts as none.
#[must_use]
pub fn write_report_from_proto(report: v1::WriteReport) -> WriteReport {
    let duration = report.duration.unwrap_or_default();
    let seconds = u64::try_from(duration.seconds).unwrap_or_default();
    let nanos = u64::try_from(duration.nanos).unwrap_or_default();
    WriteReport {
        device: report.device,
        image_bytes: report.image_bytes,
        wire_bytes: report.wire_bytes,
        refused_chunks: report.refused_chunks,
        resumed_bytes: report.resumed_bytes,
        duration_milliseconds: seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000),
        agent_peak_rss_bytes: report.agent_peak_rss_bytes,
        root_uuid: Some(report.root_uuid).filter(|uuid| !uuid.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(change: impl FnOnce(&mut v1::ImageSpec)) -> v1::DeploymentSpec {
        let mut image = v1::ImageSpec {
            source: "https://images/debian.qcow2".into(),
            checksum: SHA256.into(),
            ..Default::default()
        };
        change(&mut image);
        v1::DeploymentSpec { image: Some(image), ..Default::default() }
    }

    fn refused(spec: &v1::DeploymentSpec) -> (String, String) {
        let invalid = spec_from_proto(spec, DeployInterface::Direct).unwrap_err();
        (invalid.field, invalid.value)
    }

    #[test]
    fn every_wrong_image_is_refused_by_the_name_of_its_field() {
        type Change = fn(&mut v1::ImageSpec);
        let cases: &[(Change, &str, &str)] = &[
            (|image| image.source.clear(), "source", ""),
            (|image| image.source = "ftp://x/y".into(), "source", "ftp://x/y"),
            (|image| image.checksum.clear(), "checksum", ""),
            (|image| image.checksum = "abc".into(), "checksum", "abc"),
            (|image| image.os_hash_algo = "sha256".into(), "os_hash_value", ""),
            (|image| image.os_hash_value = SHA256.into(), "os_hash_algo", ""),
            (
                |image| {
                    image.os_hash_algo = "crc32".into();
                    image.os_hash_value = SHA256.into();
                },
                "os_hash_algo",
                "crc32",
            ),
            (|image| image.source = "https://me:secret@images/a".into(), "source", "images"),
            (|image| image.checksum = "https://me:secret@sums/a".into(), "checksum", "sums"),
            (|image| image.disk_format = "qed".into(), "disk_format", "qed"),
            (|image| image.image_type = "half-disk".into(), "image_type", "half-disk"),
        ];
        for (change, field, value) in cases {
            let expected = (format!("deployment.image.{field}"), (*value).to_owned());
            assert_eq!(refused(&image(change)), expected);
        }
    }

    #[test]
    fn the_rest_of_a_request_is_refused_by_its_field_too() {
        let spec = v1::DeploymentSpec { deploy_interface: "anaconda".into(), ..image(|_| ()) };
        assert_eq!(refused(&spec), ("deployment.deploy_interface".into(), "anaconda".into()));
        let spec = v1::DeploymentSpec { image_download_source: "swift".into(), ..image(|_| ()) };
        assert_eq!(refused(&spec), ("deployment.image_download_source".into(), "swift".into()));
        let listed = image(|image| image.checksum = "https://images/SHA256SUMS".into());
        let spec = v1::DeploymentSpec { image_download_source: "http".into(), ..listed };
        assert_eq!(refused(&spec).0, "deployment.image.checksum");
        assert_eq!(refused(&v1::DeploymentSpec::default()).0, "deployment.image");
        let drive = v1::ConfigDrive { user_data: vec![0; 2 * 1024 * 1024], ..Default::default() };
        let spec = v1::DeploymentSpec { config_drive: Some(drive), ..image(|_| ()) };
        assert_eq!(refused(&spec).0, "deployment.config_drive");
        let root_device = (0..40).map(|n| (n.to_string(), String::new())).collect();
        let spec = v1::DeploymentSpec { root_device, ..image(|_| ()) };
        assert_eq!(refused(&spec).0, "deployment.root_device");
    }

    #[test]
    fn formats_have_the_names_that_users_know() {
        for (name, known) in [("gpt", "raw"), ("VPC", "vhd"), ("Qcow2", "qcow2"), ("", "")] {
            let spec = image(|image| image.disk_format = name.into());
            let checked = spec_from_proto(&spec, DeployInterface::Direct).unwrap();
            assert_eq!(spec_to_proto(&checked).image.unwrap().disk_format, known);
        }
    }

    #[test]
    fn partitions_are_for_partition_images_and_refused_by_their_field() {
        let layout = v1::PartitionLayout { swap_mb: 512, ..Default::default() };
        let spec = v1::DeploymentSpec { partitions: Some(layout.clone()), ..image(|_| ()) };
        assert_eq!(refused(&spec).0, "deployment.partitions");

        let partition = || image(|image| image.image_type = "partition".into());
        let spec = v1::DeploymentSpec { partitions: Some(layout.clone()), ..partition() };
        let checked = spec_from_proto(&spec, DeployInterface::Direct).unwrap();
        let out = spec_to_proto(&checked);
        assert_eq!(out.partitions, Some(layout));
        assert_eq!(out.image.unwrap().image_type, "partition");
        // Without a layout the image gets the disk.
        let checked = spec_from_proto(&partition(), DeployInterface::Direct).unwrap();
        assert_eq!(checked.partitions, Some(PartitionLayout::default()));

        let layout = v1::PartitionLayout { ephemeral_format: "xfs".into(), ..Default::default() };
        let spec = v1::DeploymentSpec { partitions: Some(layout), ..partition() };
        let expected = ("deployment.partitions.ephemeral_format".into(), "xfs".into());
        assert_eq!(refused(&spec), expected);
    }

    proptest! {
        #[test]
        fn requests_come_back(
            checksum_file: bool,
            http: bool,
            user_data: Option<Vec<u8>>,
            root_device: HashMap<String, String>,
            meta in "[a-z]{0,8}",
        ) {
            let mut spec = image(|image| {
                if checksum_file && !http {
                    image.checksum = "https://images/SHA256SUMS".into();
                }
                image.disk_format = "raw".into();
            });
            if http {
                spec.image_download_source = "http".into();
            }
            let meta_data = JsonMap::from_iter([("hostname".to_owned(), meta.into())]);
            spec.config_drive = user_data.map(|user_data| v1::ConfigDrive {
                meta_data: Some(json::to_proto(&meta_data)),
                user_data,
                ..Default::default()
            });
            spec.root_device = root_device.into_iter().take(ROOT_DEVICE_HINTS_MAX)
                .map(|(hint, value)| (hint, value.chars().take(SHORT_CHARACTERS_MAX).collect()))
                .collect();
            let first = spec_from_proto(&spec, DeployInterface::Direct).unwrap();
            let out = spec_to_proto(&first);
            prop_assert_eq!(&out.root_device, &spec.root_device);
            prop_assert_eq!(&out.config_drive, &spec.config_drive);
            prop_assert_eq!(spec_from_proto(&out, DeployInterface::Direct).unwrap(), first);
        }

        #[test]
        fn reports_come_back(
            device in ".{0,12}", image_bytes: u64, wire_bytes: u64, refused_chunks: u64,
            resumed_bytes: u64, duration_milliseconds: u64, agent_peak_rss_bytes: u64,
            root_uuid in proptest::option::of("[0-9a-f]{8}"),
        ) {
            let report = WriteReport {
                device, image_bytes, wire_bytes, refused_chunks, resumed_bytes,
                duration_milliseconds, agent_peak_rss_bytes, root_uuid,
            };
            prop_assert_eq!(write_report_from_proto(write_report_to_proto(&report)), report);
        }

        #[test]
        fn resolved_images_come_back(
            id in ".{0,12}", raw_hash_value in ".{0,12}", raw_size_bytes: u64, pack_size_bytes: u64,
        ) {
            let image = ResolvedImage {
                id, raw_size_bytes, raw_hash_value, pack_size_bytes,
                source_format: "qcow2".into(), raw_hash_algo: "sha256".into(),
            };
            prop_assert_eq!(resolved_image_from_proto(resolved_image_to_proto(&image)), image);
        }
    }
}
