//! Watching and paging through history.

use bessemer_domain::EventHash;
use bessemer_proto::v1;
use futures::StreamExt;

use crate::member::{Running, refusal, verb};

/// The next `count` events of a watch.
async fn take(api: &Running, request: v1::WatchRequest, count: usize) -> Vec<v1::Event> {
    let mut watch = api.client.watch(request);
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(watch.next().await.unwrap().unwrap().events);
    }
    events
}

#[tokio::test]
async fn a_watch_replays_history_and_follows_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("n").await;
    let past = api.revision().await;
    let mut watch =
        api.client.watch(v1::WatchRequest { after_revision: Some(0), ..Default::default() });
    let (mut revision, mut hash, mut seen) = (0, EventHash::default(), 0);
    let mut managed = false;
    while revision < past + 2 {
        let response = watch.next().await.unwrap().unwrap();
        for event in response.events {
            revision += 1;
            assert_eq!(event.revision, revision);
            hash = hash.chain(&event.record);
            assert_eq!(event.hash, hash.0.to_vec());
            seen += 1;
        }
        assert_eq!(response.revision, revision);
        if revision == past && !managed {
            managed = true;
            api.client.manage_node(verb("n")).await.unwrap();
        }
    }
    assert_eq!(seen, past + 2);
    let status = api.client.get_status(v1::GetStatusRequest {}).await.unwrap();
    assert_eq!(status.hash, hash.0);

    let rest = take(&api, v1::WatchRequest { after_revision: Some(past), ..Default::default() }, 2);
    assert_eq!(rest.await[0].revision, past + 1);
    api.stop().await;
}

#[tokio::test]
async fn a_filtered_watch_still_tells_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("a").await;
    api.create("b").await;
    let filter = v1::EventFilter {
        node: "b".into(),
        types: vec!["node.created".into()],
        ..Default::default()
    };
    let mut watch =
        api.client.watch(v1::WatchRequest { after_revision: Some(0), filter: Some(filter) });
    let (mut events, mut reached) = (Vec::new(), 0);
    api.client.manage_node(verb("a")).await.unwrap();
    let newest = api.revision().await;
    while reached < newest {
        let response = watch.next().await.unwrap().unwrap();
        events.extend(response.events);
        reached = response.revision;
    }
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].r#type.as_str(), events[0].actor.as_str()), ("node.created", "tester"));
    api.stop().await;
}

#[tokio::test]
async fn history_is_read_in_pages_by_revision_and_by_node() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("a").await;
    api.create("b").await;
    api.make_available("a").await;
    let of = |node: &str, subject: &str| {
        Some(v1::EventFilter { node: node.into(), subject: subject.into(), types: vec![] })
    };
    for filter in [None, of("a", ""), of("", "conductor/conductor-1"), of("", "cluster")] {
        let (mut events, mut after_revision) = (Vec::new(), 0);
        loop {
            let request = v1::ListEventsRequest {
                after_revision,
                page_size: 2,
                filter: filter.clone(),
                after_sequence: 0,
            };
            let page = api.client.list_events(request).await.unwrap();
            events.extend(page.events);
            after_revision = page.revision;
            if !page.more {
                break;
            }
        }
        assert_eq!(after_revision, api.revision().await);
        assert!(!events.is_empty());
        let expected: Vec<_> = (1..=events.len() as u64).collect();
        let counted: Vec<_> = events
            .iter()
            .map(|event| if filter.is_some() { event.sequence } else { event.revision })
            .collect();
        assert_eq!(counted, expected);
    }
    let request = v1::ListEventsRequest {
        filter: of("a", ""),
        after_sequence: 2,
        page_size: 1,
        ..Default::default()
    };
    assert_eq!(api.client.list_events(request).await.unwrap().events[0].sequence, 3);
    let both = v1::ListEventsRequest { filter: of("a", "cluster"), ..Default::default() };
    assert_eq!(refusal(api.client.list_events(both)).await.metadata["field"], "filter.subject");
    let beyond = v1::ListEventsRequest { after_revision: 1_000_000, ..Default::default() };
    assert_eq!(refusal(api.client.list_events(beyond)).await.metadata["field"], "after_revision");
    api.stop().await;
}
