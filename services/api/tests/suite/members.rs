//! Membership over the API: what is wrong is named, what was done is found done.

use bessemer_proto::v1;
use tonic::Code;

use crate::member::{Running, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_answered_with_the_members() {
    let dir = tempfile::tempdir().unwrap();
    let member = Running::start(dir.path()).await;
    let add = v1::AddMemberRequest { id: 2, address: "127.0.0.1:2".into() };
    let answer = member.client.add_member(add.clone()).await.unwrap();
    assert!(answer.changed);
    let learner = &answer.members[1];
    assert_eq!((learner.id, learner.voter, learner.up), (2, false, Some(false)));
    assert!(!member.client.add_member(add).await.unwrap().changed);
    let remove = v1::RemoveMemberRequest { id: 2, force: false };
    let answer = member.client.remove_member(remove).await.unwrap();
    assert!(answer.changed);
    assert_eq!(answer.members.len(), 1);
    assert!(!member.client.remove_member(remove).await.unwrap().changed);
    let own = v1::TransferLeaderRequest { id: 1 };
    assert!(!member.client.transfer_leader(own).await.unwrap().changed);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let member = Running::start(dir.path()).await;
    let client = &member.client;
    let add = |id, address: &str| v1::AddMemberRequest { id, address: address.into() };

    let refused = refusal(client.add_member(add(0, "h:1"))).await;
    assert_eq!(
        (refused.reason.as_str(), refused.metadata["field"].as_str()),
        ("INVALID_FIELD", "id")
    );
    let refused = refusal(client.add_member(add(2, "h"))).await;
    assert_eq!(refused.metadata["field"], "address");
    let refused = refusal(client.add_member(add(1, "h:1"))).await;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::AlreadyExists, "MEMBER_TAKEN"));
    let refused = refusal(client.promote_member(v1::PromoteMemberRequest { id: 7 })).await;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "MEMBER_NOT_FOUND"));
    let remove = v1::RemoveMemberRequest { id: 1, force: true };
    let refused = refusal(client.remove_member(remove)).await;
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::FailedPrecondition, "QUORUM_AT_RISK")
    );

    client.add_member(add(2, "127.0.0.1:2")).await.unwrap();
    let refused = refusal(client.promote_member(v1::PromoteMemberRequest { id: 2 })).await;
    assert_eq!(refused.reason, "MEMBER_NOT_READY");
    assert!(refused.message.contains("does not answer the leader"), "{}", refused.message);
    let refused = refusal(client.transfer_leader(v1::TransferLeaderRequest { id: 2 })).await;
    assert_eq!(
        (refused.reason.as_str(), refused.metadata["member"].as_str()),
        ("MEMBER_NOT_READY", "2")
    );
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_a_backup_are_taken_from_the_member_that_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let member = Running::with_conductor(dir.path()).await;
    member.create("m1").await;
    let taken = member.client.take_snapshot(v1::TakeSnapshotRequest {}).await.unwrap();
    let status = member.client.get_status(v1::GetStatusRequest {}).await.unwrap();
    assert_eq!((taken.member_id, taken.log_index), (1, status.snapshot_index));
    assert!(status.waits_for.is_empty());

    let mut slices = member.client.backup(v1::BackupRequest {}).await.unwrap();
    let file = dir.path().join("backup");
    let mut bytes = Vec::new();
    while let Some(slice) = slices.message().await.unwrap() {
        bytes.extend_from_slice(&slice.slice);
    }
    std::fs::write(&file, bytes).unwrap();
    let header = bessemer_api::backup::verify(&file).unwrap();
    assert_eq!(header.revision.0, status.revision);
    member.stop().await;
}
