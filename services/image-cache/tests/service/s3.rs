//! Images in a store that speaks like S3.

use bessemer_image_cache::S3Config;
use bytes::Bytes;
use tonic::Code;

use crate::client::{Cache, error_info, id, spec};
use crate::images::{disk, qcow2, sha256};
use crate::origin::{Origin, Served};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_fetched_by_signed_urls_and_resumed() {
    let (origin, disk) = (Origin::start().await, disk(80));
    let source = qcow2(&disk, &[]);
    let content = Bytes::copy_from_slice(&source);
    let cut_after = Some(source.len() * 2 / 3);
    let served = Served {
        content,
        cut_after,
        etag: Some("\"1\""),
        signed_with: Some("KEY"),
        ..Served::default()
    };
    origin.put("disk.qcow2", served);
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let cache = Cache::start_in(directory, |config| {
        config.s3 = Some(S3Config {
            endpoint: origin.url().to_owned(),
            region: "eu".to_owned(),
            bucket_in_host: false,
            access_key_id: Some("KEY".to_owned()),
            secret_access_key_file: Some(secret),
        });
    })
    .await;
    let url = "s3://bucket/disk.qcow2";
    let image = cache.prepare(spec(url, &sha256(&source))).await.unwrap();
    assert_eq!(
        (image.name.as_str(), image.spec.as_ref().unwrap().source.as_str()),
        ("disk.qcow2", url)
    );
    let (_, raw) = cache.get(id(&image), "raw", "").await;
    assert!(raw == disk);
    assert_eq!(origin.requests("disk.qcow2").len(), 2);

    let error = cache.prepare(spec("s3://bucket/gone", &sha256(b""))).await.unwrap_err();
    assert_eq!(
        (error.code(), error_info(&error).0.as_str()),
        (Code::FailedPrecondition, "IMAGE_SOURCE_REFUSED")
    );
    assert!(!error.message().contains("X-Amz"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_an_object_is_refused_and_the_way_out_is_named() {
    let cache = Cache::start().await;
    let error = cache.prepare(spec("s3://bucket/disk", &sha256(b"x"))).await.unwrap_err();
    let (reason, metadata) = error_info(&error);
    assert_eq!((reason.as_str(), metadata["field"].as_str()), ("INVALID_FIELD", "image.source"));
    assert!(error.message().contains("[s3]"), "{error}");
    let error = cache.prepare(spec("s3://bucket", &sha256(b"x"))).await.unwrap_err();
    assert!(error.message().contains("s3://BUCKET/KEY"), "{error}");
}
