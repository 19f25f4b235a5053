//! openraft's own suite for stores, on the real ones.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::log::LogStore;
use crate::machine::StateMachine;
use crate::raft::TypeConfig;
use crate::store::Store;

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log_dir = dir.path().join("log");
        std::fs::create_dir(&log_dir).unwrap();
        let tracker = TaskTracker::new();
        let log = LogStore::open(&log_dir, tracker.token()).unwrap();
        let store = Arc::new(Store::open(dir.path(), 16 << 20).unwrap());
        let (machine, _) = StateMachine::open(store, tracker.token()).unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_pass_openrafts_suite() {
    Suite::test_all(OnDisk).await.unwrap();
}
