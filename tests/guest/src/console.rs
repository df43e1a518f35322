//! Orders typed on the serial console.

use std::io::BufRead;
use std::sync::mpsc::SyncSender;
use std::thread;

use crate::orders::Order;
use crate::report;

/// Reads lines until the console ends.
pub fn listen(orders: SyncSender<Order>) {
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match parse(&line) {
                Ok(Some(order)) if orders.send(order).is_err() => return,
                Ok(_) => {}
                Err(()) => report::line(format_args!("orders are: status, sweep, poweroff")),
            }
        }
    });
}

fn parse(line: &str) -> Result<Option<Order>, ()> {
    match line.trim() {
        "" => Ok(None),
        "status" => Ok(Some(Order::Status)),
        "sweep" => Ok(Some(Order::Sweep)),
        "poweroff" => Ok(Some(Order::PowerOff)),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_orders() {
        assert_eq!(parse(" poweroff\r"), Ok(Some(Order::PowerOff)));
        assert_eq!(parse("status"), Ok(Some(Order::Status)));
        assert_eq!(parse("sweep"), Ok(Some(Order::Sweep)));
        assert_eq!(parse("  "), Ok(None));
        assert_eq!(parse("reboot"), Err(()));
    }
}
