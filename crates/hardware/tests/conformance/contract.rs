//! What every hardware type must do.

use bessemer_hardware::{Bmc, BootDevice, unclaimed};
use futures::FutureExt;
use tokio::sync::Notify;

/// Holds a machine against the contract. `boots` says what the machine would boot, and does not ask our code.
pub(crate) async fn holds(bmc: &dyn Bmc, boots: impl AsyncFn() -> BootDevice) {
    for device in [BootDevice::Ramdisk, BootDevice::Disk] {
        for _ in 0..2 {
            bmc.power_off(&unclaimed).await.unwrap();
            assert!(!bmc.is_on().await.unwrap());
        }
        for _ in 0..2 {
            bmc.set_boot_device(device, &unclaimed).await.unwrap();
            assert_eq!(boots().await, device);
            assert!(!bmc.is_on().await.unwrap(), "to set the boot device is not to switch on");
        }
        without_the_right(bmc, Order::PowerOn).await;
        assert!(!bmc.is_on().await.unwrap());
        for _ in 0..2 {
            bmc.power_on(&unclaimed).await.unwrap();
            assert!(bmc.is_on().await.unwrap());
        }
        without_the_right(bmc, Order::PowerOff).await;
        assert!(bmc.is_on().await.unwrap());
    }
    bmc.power_off(&unclaimed).await.unwrap();
    without_the_right(bmc, Order::BootRamdisk).await;
    assert_eq!(boots().await, BootDevice::Disk);
}

enum Order {
    PowerOn,
    PowerOff,
    BootRamdisk,
}

/// Gives an order whose claim is lost: it must ask for its right, and wait for it. Dropped then, it must have changed
/// nothing.
async fn without_the_right(bmc: &dyn Bmc, order: Order) {
    let asked = Notify::new();
    let refuse = || {
        asked.notify_one();
        std::future::pending().boxed()
    };
    let order = match order {
        Order::PowerOn => bmc.power_on(&refuse),
        Order::PowerOff => bmc.power_off(&refuse),
        Order::BootRamdisk => bmc.set_boot_device(BootDevice::Ramdisk, &refuse),
    };
    tokio::select! {
        done = order => panic!("obeyed without the right to give it: {done:?}"),
        () = asked.notified() => {}
    }
}
