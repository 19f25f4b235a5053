//! What every hardware type must do.

use bessemer_hardware::{Bmc, BootDevice, unclaimed};
use futures::FutureExt;
use tokio::sync::Notify;

/// Holds a machine against the contract. `boots` says what the machine would boot, and does not ask our code.
/// `ramdisk` is what it boots the deploy ramdisk from.
pub(crate) async fn holds(bmc: &dyn Bmc, ramdisk: BootDevice, boots: impl AsyncFn() -> BootDevice) {
    for device in [ramdisk, BootDevice::Disk] {
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
        without_the_right(bmc, Order::ShutDown).await;
        without_the_right(bmc, Order::InjectNmi).await;
        assert!(bmc.is_on().await.unwrap());
        // Neither simulator knows it; what a BMC cannot do, it refuses for good.
        if let Err(error) = bmc.inject_nmi(&unclaimed).await {
            assert!(!error.is_retryable(), "{error}");
        }
        for _ in 0..2 {
            bmc.shut_down(&unclaimed).await.unwrap();
            assert!(!bmc.is_on().await.unwrap());
        }
        let error = bmc.inject_nmi(&unclaimed).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
    bmc.power_off(&unclaimed).await.unwrap();
    without_the_right(bmc, Order::Boot(ramdisk)).await;
    assert_eq!(boots().await, BootDevice::Disk);
}

/// Holds a machine with virtual media against its part of the contract. `boots` says which ISO the machine would boot, if
/// any, and what is beside it, and does not ask our code.
pub(crate) async fn boots_isos(
    bmc: &dyn Bmc,
    isos: [&str; 2],
    boots: impl AsyncFn() -> Option<(String, Option<String>)>,
) {
    bmc.power_off(&unclaimed).await.unwrap();
    for (iso, config_drive) in [(isos[0], None), (isos[0], Some(isos[1])), (isos[1], None)] {
        let expected = Some((iso.to_owned(), config_drive.map(str::to_owned)));
        for _ in 0..2 {
            bmc.set_boot_iso(iso, config_drive, &unclaimed).await.unwrap();
            assert_eq!(boots().await, expected);
            assert!(!bmc.is_on().await.unwrap(), "to set what is booted is not to switch on");
        }
        bmc.power_on(&unclaimed).await.unwrap();
        bmc.power_off(&unclaimed).await.unwrap();
        assert_eq!(boots().await, expected, "it boots it again");
    }
    bmc.set_boot_device(BootDevice::Disk, &unclaimed).await.unwrap();
    assert_eq!(boots().await, None);
    without_the_right(bmc, Order::BootIso(isos[0])).await;
    assert_eq!(boots().await, None);
}

enum Order<'a> {
    BootIso(&'a str),
    PowerOn,
    PowerOff,
    ShutDown,
    InjectNmi,
    Boot(BootDevice),
}

/// Gives an order whose claim is lost: it must ask for its right, and wait for it. Dropped then, it must have changed
/// nothing.
async fn without_the_right(bmc: &dyn Bmc, order: Order<'_>) {
    let asked = Notify::new();
    let refuse = || {
        asked.notify_one();
        std::future::pending().boxed()
    };
    let order = match order {
        Order::BootIso(iso) => bmc.set_boot_iso(iso, None, &refuse),
        Order::PowerOn => bmc.power_on(&refuse),
        Order::PowerOff => bmc.power_off(&refuse),
        Order::ShutDown => bmc.shut_down(&refuse),
        Order::InjectNmi => bmc.inject_nmi(&refuse),
        Order::Boot(device) => bmc.set_boot_device(device, &refuse),
    };
    tokio::select! {
        done = order => panic!("obeyed without the right to give it: {done:?}"),
        () = asked.notified() => {}
    }
}
