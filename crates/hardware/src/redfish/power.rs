//! Power (DSP0268, `ComputerSystem.Reset`).

use reqwest::StatusCode;
use serde_json::json;

use super::resource::Resource;
use super::service::Service;
use crate::poll::{POWER_LIMIT, until};
use crate::{Entitled, HardwareError};

/// `PowerState` of a machine that runs.
const ON: &str = "On";
/// `PowerState` of a machine that does not.
pub(super) const OFF: &str = "Off";

/// A way to a power state.
pub(super) struct Way {
    /// `PowerState` in the end.
    wanted: &'static str,
    /// Kinds of reset that lead there, the best first. `PushPowerButton` is in none: it does the opposite when it is repeated.
    resets: &'static [&'static str],
    /// `PowerState` of a machine that is being switched so, for which nothing is left to ask.
    on_the_way: Option<&'static str>,
}

/// Switches it on.
pub(super) const SWITCH_ON: Way =
    Way { wanted: ON, resets: &["On", "ForceOn"], on_the_way: Some("PoweringOn") };
/// Switches it off, at once.
pub(super) const SWITCH_OFF: Way =
    Way { wanted: OFF, resets: &["ForceOff"], on_the_way: Some("PoweringOff") };
/// Has the operating system shut down.
pub(super) const SHUT_DOWN: Way =
    Way { wanted: OFF, resets: &["GracefulShutdown"], on_the_way: Some("PoweringOff") };

/// What the machine's `PowerState` is.
pub(super) fn state(system: &Resource) -> Result<&str, HardwareError> {
    let state = system.text("/PowerState")?;
    // BMCs have it empty until they have looked at the machine for the first time.
    system.required("/PowerState", state, true)
}

/// Brings the machine to a power state. An accepted order is not taken for its execution: some BMCs accept any.
pub(super) async fn switch(
    service: &Service,
    system: Resource,
    Way { wanted, resets, on_the_way }: Way,
    entitled: Entitled<'_>,
) -> Result<(), HardwareError> {
    let now = state(&system)?;
    if now == wanted {
        return Ok(());
    }
    let mut request = system.request.clone();
    if Some(now) != on_the_way {
        let target = target(&system)?;
        let reset = reset_type(&system, resets)?;
        let answer = service.post(target, &json!({"ResetType": reset}), entitled).await?;
        request = answer.request.clone();
        if answer.status.is_client_error() && answer.status != StatusCode::UNAUTHORIZED {
            // A BMC refuses what is already so, because somebody pressed the button or the order before was slow; and
            // what comes while the machine is on the way somewhere else.
            let now = service.get(&system.path).await?;
            match state(&now)? {
                now if now == wanted => return Ok(()),
                ON | OFF => drop(answer.accepted()?),
                now => {
                    let words = format!("{}: {} (PowerState {now})", answer.status, answer.words());
                    return Err(request.failed(words, true));
                }
            }
        } else {
            answer.accepted()?;
        }
    }
    let reached = until(POWER_LIMIT, || async {
        Ok((state(&service.get(&system.path).await?)? == wanted).then_some(()))
    });
    reached.await?.ok_or_else(|| {
        let limit = POWER_LIMIT.as_secs();
        request.failed(format!("accepted, but {limit} s later PowerState is not {wanted}"), true)
    })
}

/// Sends a non-maskable interrupt.
pub(super) async fn inject_nmi(
    service: &Service,
    system: Resource,
    entitled: Entitled<'_>,
) -> Result<(), HardwareError> {
    let now = state(&system)?;
    if now != ON {
        let answer = format!("PowerState is {now}; a machine gets an NMI only while it is {ON}");
        return Err(system.request.failed(answer, false));
    }
    let reset = reset_type(&system, &["Nmi"])?;
    service.post(target(&system)?, &json!({"ResetType": reset}), entitled).await?.accepted()?;
    Ok(())
}

fn target(system: &Resource) -> Result<&str, HardwareError> {
    let target = system.text("/Actions/#ComputerSystem.Reset/target")?;
    system.required("/Actions/#ComputerSystem.Reset/target", target, false)
}

/// The best of `resets` that the BMC allows. One that does not say what it allows is taken to allow all.
fn reset_type(
    system: &Resource,
    resets: &'static [&'static str],
) -> Result<&'static str, HardwareError> {
    const ALLOWED: &str = "/Actions/#ComputerSystem.Reset/ResetType@Redfish.AllowableValues";
    let Some(allowed) = system.texts(ALLOWED)?.filter(|allowed| !allowed.is_empty()) else {
        return Ok(resets[0]);
    };
    resets.iter().copied().find(|reset| allowed.contains(reset)).ok_or_else(|| {
        let wanted = resets.join(" or ");
        let allowed = allowed.join(", ");
        system.request.failed(format!("no ResetType {wanted} is allowed, only: {allowed}"), false)
    })
}
