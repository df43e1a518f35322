//! The power button, as the kernel's input devices report it: this is what the hypervisor presses
//! to stop a guest in an orderly way.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::thread;

use crate::orders::Order;

const DIRECTORY: &str = "/dev/input";
/// Bytes of `struct input_event` on 64-bit Linux: a time of 16 bytes, type, code, value.
const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;

/// Listens to every input device there is; a machine without any has no button.
pub fn listen(orders: &SyncSender<Order>) {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if is_event_device(&path) {
            let orders = orders.clone();
            thread::spawn(move || wait_for_press(&path, &orders));
        }
    }
}

fn is_event_device(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("event"))
}

fn wait_for_press(path: &Path, orders: &SyncSender<Order>) {
    let Ok(mut file) = File::open(path) else { return };
    let mut event = [0; EVENT_BYTES];
    while file.read_exact(&mut event).is_ok() {
        if is_power_press(&event) && orders.send(Order::PowerOff).is_err() {
            return;
        }
    }
}

fn is_power_press(event: &[u8; EVENT_BYTES]) -> bool {
    let kind = u16::from_ne_bytes([event[16], event[17]]);
    let code = u16::from_ne_bytes([event[18], event[19]]);
    let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
    (kind, code, value) == (EV_KEY, KEY_POWER, PRESSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT_BYTES] {
        let mut event = [0xaa; EVENT_BYTES];
        event[16..18].copy_from_slice(&kind.to_ne_bytes());
        event[18..20].copy_from_slice(&code.to_ne_bytes());
        event[20..24].copy_from_slice(&value.to_ne_bytes());
        event
    }

    #[test]
    fn only_pressing_the_power_key_counts() {
        assert!(is_power_press(&event(EV_KEY, KEY_POWER, PRESSED)));
        assert!(!is_power_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_power_press(&event(EV_KEY, 30, PRESSED)));
        assert!(!is_power_press(&event(0, 0, 0)));
    }
}
