//! The table at the end.

use std::io;

use super::check::Checked;
use super::fleet::Totals;
use super::say;

pub(super) fn print(totals: &[Totals], checked: &[(&'static str, Checked)], count: u64) -> io::Result<()> {
    say(format_args!(
        "\n{:<8} {:>8} {:>8} {:>8} {:>9} {:>18} {:>9}  once, and unchanged",
        "node", "sealed", "sent", "offered", "received", "duplicates dropped", "delivered"
    ))?;
    for Totals { name, sealed, sent, offered, received, duplicates } in totals {
        let (delivered, proof) = match checked.iter().find(|(node, _)| node == name) {
            Some((_, checked)) => (checked.delivered(), format!("{} of {count}", checked.exact())),
            // It is where the events come from: its IntelMQ has them.
            None => (0, format!("{sealed} of {count} sealed")),
        };
        say(format_args!(
            "{name:<8} {sealed:>8} {sent:>8} {offered:>8} {received:>9} {duplicates:>18} {delivered:>9}  {proof}"
        ))?;
    }
    Ok(())
}
