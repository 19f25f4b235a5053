//! A claim that is lost in the middle of an operation: nothing more is sent that changes anything.

use std::sync::atomic::{AtomicUsize, Ordering};

use bessemer_hardware::{Bmc, BootDevice, unclaimed};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::Notify;

use crate::server::{CD, Server};

#[tokio::test]
async fn each_request_that_changes_something_asks_for_the_right_to() {
    // To eject, to insert, to set the override.
    const REQUESTS: usize = 3;
    for granted in 0..REQUESTS {
        let server = Server::start().await;
        server.bend(CD, "/Image", json!("http://elsewhere/other.iso"));
        server.bend(CD, "/Inserted", json!(true));
        let machine = server.machine();
        let (asked, refused) = (AtomicUsize::new(0), Notify::new());
        let entitled = || -> BoxFuture<'_, ()> {
            if asked.fetch_add(1, Ordering::Relaxed) < granted {
                return unclaimed();
            }
            refused.notify_one();
            std::future::pending().boxed()
        };
        tokio::select! {
            done = machine.set_boot_device(BootDevice::Ramdisk, &entitled) => {
                panic!("done with a right to {granted} requests: {done:?}")
            }
            () = refused.notified() => {}
        }
        assert_eq!(server.orders().len(), granted);
        // Whoever has the claim now begins anew, and gets there.
        machine.set_boot_device(BootDevice::Ramdisk, &unclaimed).await.unwrap();
    }
}
