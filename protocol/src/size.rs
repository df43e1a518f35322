//! Sizes as people write them: `512M`, `4G`, `4GiB`; always powers of two.

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a size: write a whole number of bytes or with K, M, G or T (4G and 4GiB are 4·2³⁰ bytes)"
)]
pub struct InvalidSize {
    /// What was given, cut to a printable length.
    pub text: String,
}

/// Bytes of a size such as `4096`, `512M`, `4G`, `4GiB`, in either case.
///
/// # Errors
/// [`InvalidSize`] for anything else, for fractions and for sizes beyond 2⁶⁴ bytes.
pub fn parse_size_bytes(text: &str) -> Result<u64, InvalidSize> {
    let invalid = || InvalidSize { text: text.chars().take(40).collect() };
    let trimmed = text.trim();
    let digits_end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(digits_end);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(invalid()),
    };
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    number.checked_mul(1 << shift).ok_or_else(invalid)
}

/// A size as people read it, rounded: the largest unit that leaves a short number, `512 MiB`, `1.5 GiB`.
pub fn display_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let in_tenths =
        |unit: usize| (u128::from(bytes) * 10 + ((1 << (10 * unit)) >> 1)) >> (10 * unit);
    // What is rounded up to 1024 of a unit is 1 of the next.
    let fits = |unit: &usize| in_tenths(*unit) < 10 * 1024;
    let unit = (0..UNITS.len()).find(fits).unwrap_or(UNITS.len() - 1);
    let (whole, tenths) = (in_tenths(unit) / 10, in_tenths(unit) % 10);
    if tenths == 0 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenths} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [
            ("1", 1),
            ("4096", 4096),
            ("4k", 4096),
            ("512M", 512 << 20),
            ("4GiB", 4 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_size_bytes(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "G", "-1", "1.5G", "4GB5", "4X", "99999999999999999999", "18446744073709551615K"]
        {
            assert!(parse_size_bytes(text).is_err(), "{text}");
        }
        assert_eq!(display_size(512 << 20), "512 MiB");
        assert_eq!(display_size(3 << 29), "1.5 GiB");
    }

    #[test]
    fn a_size_is_shown_rounded_not_cut() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (580_690_903, "553.8 MiB"),
            ((1 << 30) - 1, "1 GiB"),
            ((1 << 20) + (1 << 15), "1 MiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(display_size(bytes), shown, "{bytes}");
        }
    }
}
