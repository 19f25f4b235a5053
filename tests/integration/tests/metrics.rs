//! What monitoring is told is what is documented, and what the alerts and the Grafana dashboard use.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use bessemer_testkit::{Cluster, Options, deployment_of, wait_for};
use sha2::{Digest, Sha256};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// How long a process may take to tell the truth about itself.
const LIMIT: Duration = Duration::from_secs(30);

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap()
}

/// The metrics in the tables of the documentation.
fn documented() -> BTreeSet<String> {
    let document = read("docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `bessemer_"));
    rows.map(|row| format!("bessemer_{}", row.split('`').next().unwrap())).collect()
}

/// The metrics that are named anywhere in a text, histograms by their own name.
fn named(text: &str) -> BTreeSet<String> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_name(character))
        .filter(|word| word.starts_with("bessemer_"))
        .map(|word| {
            let histogram =
                ["_bucket", "_sum", "_count"].iter().find_map(|it| word.strip_suffix(it));
            histogram.unwrap_or(word).to_owned()
        })
        .collect()
}

/// The metrics that a process serves.
fn served(metrics: &str) -> BTreeSet<String> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, _) => name.to_owned(),
        })
        .collect()
}

async fn get(url: &str) -> Result<(u16, String), String> {
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.map_err(|error| error.to_string())?))
}

#[test]
fn alerts_and_the_grafana_dashboard_use_metrics_that_there_are() {
    let documented = documented();
    for file in ["alerts.yaml", "grafana-dashboard.json"] {
        let used = named(&read(&format!("deploy/observability/{file}")));
        assert!(used.len() > 5, "{file} uses {used:?}");
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}");
    }
}

#[tokio::test]
async fn what_is_served_is_what_is_documented() -> anyhow::Result<()> {
    let options = Options { conductors: 1, ..Options::default() };
    let mut cluster = Cluster::start(&options).await?;
    let content = vec![7; 1 << 20];
    let image = cluster.home().join("disk.raw");
    std::fs::write(&image, &content)?;
    cluster.available_node("m1", 64 << 20).await?;
    cluster.deploy("m1", deployment_of(&image, &hex::encode(Sha256::digest(&content)))).await?;
    cluster.until_state("m1", "active").await?;

    let mut all = BTreeSet::new();
    for process in ["api-1", "api-2", "api-3", "conductor-0", "image-cache-0"] {
        let url = cluster.metrics_url(process)?;
        assert_eq!(get(&format!("{url}/healthz")).await.unwrap(), (200, "ok\n".to_owned()));
        assert_eq!(get(&format!("{url}/readyz")).await.unwrap(), (200, "ready\n".to_owned()));
        let (_, metrics) = get(&format!("{url}/metrics")).await.unwrap();
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
        all.extend(served(&metrics));
    }
    // Nobody is refused where nobody is asked who they are; the tests of TLS look at those.
    let (refused, others): (BTreeSet<_>, BTreeSet<_>) =
        documented().into_iter().partition(|name| name.ends_with("_access_refused_total"));
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert_eq!(all, others);

    let conductor = cluster.metrics_url("conductor-0")?;
    let (_, metrics) = get(&format!("{conductor}/metrics")).await.unwrap();
    let written =
        "bessemer_conductor_steps_total{step=\"deploy.write_image\",outcome=\"completed\"} 1";
    assert!(metrics.contains(written), "{metrics}");
    wait_for("events that are all published", LIMIT, async || {
        let (_, metrics) = get(&format!("{conductor}/metrics")).await?;
        let wanted = "bessemer_conductor_publication_lag_seconds 0.0";
        metrics.contains(wanted).then_some(()).ok_or(metrics)
    })
    .await?;
    let cache = cluster.metrics_url("image-cache-0")?;
    let (_, metrics) = get(&format!("{cache}/metrics")).await.unwrap();
    for line in [
        "bessemer_image_cache_requests_total{result=\"miss\"} 1",
        "bessemer_image_cache_preparations_total{outcome=\"PREPARED\"} 1",
        "bessemer_image_cache_preparations_running 0",
        "bessemer_image_cache_images 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    // Without a majority nobody leads, and who is asked says so; a conductor without a leader has no lease.
    cluster.members.truncate(1);
    for (process, reasons) in [
        ("api-1", ["no leader is known", "too few of the other voters answer"]),
        ("conductor-0", ["holds no lease"; 2]),
    ] {
        let url = format!("{}/readyz", cluster.metrics_url(process)?);
        wait_for(&format!("{process} that is not ready"), LIMIT, async || {
            match get(&url).await? {
                (503, said) if reasons.iter().any(|reason| said.contains(reason)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
    }
    Ok(())
}
