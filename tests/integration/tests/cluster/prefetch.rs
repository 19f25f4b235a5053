//! An image ahead of the deployments, in all places that machines read from.

use bessemer_proto::v1::GetImageRequest;
use bessemer_testkit::{Cluster, Options};

use crate::images::placed;

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetched_image_is_in_every_cache_or_the_command_says_which_one_fails() {
    let options =
        Options { members: 1, conductors: 1, caches: 2, nats: false, ..Options::default() };
    let mut cluster = Cluster::start(&options).await.unwrap();
    let image = placed(&cluster);
    let prefetch =
        |cluster: &Cluster| cluster.bessemer(&[1], &["image", "prefetch", image.to_str().unwrap()]);
    let output = prefetch(&cluster).unwrap();
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{errors}");
    let own = |number: usize| format!("http://{}", cluster.caches[number].proxy.address());
    assert!(text.contains(&own(0)) && text.contains(&own(1)), "{text}");
    let request = GetImageRequest { image: "disk.qcow2".to_owned() };
    assert!(cluster.client.get_image(request).await.unwrap().resolved.is_some());

    cluster.caches[1].process.kill();
    let output = prefetch(&cluster).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("image cache http://"), "{errors}");
}
