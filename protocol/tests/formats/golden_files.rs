//! The recorded streams, see `tests/golden/README.md`.

use std::path::PathBuf;

/// One recorded migration.
pub struct Golden {
    pub main: Vec<u8>,
    pub channels: Vec<Vec<u8>>,
    pub return_path: Vec<u8>,
    /// QEMU's own counts.
    pub normal_pages: u64,
    pub zero_pages: u64,
    /// FNV-1a of the target's `pc.ram` in the end.
    pub memory_fnv: u64,
}

/// Zero pages found by two page channels.
pub fn multifd() -> Golden {
    read("multifd", 2)
}

/// Everything on the main channel.
pub fn plain() -> Golden {
    read("plain", 0)
}

fn read(directory: &str, channels: usize) -> Golden {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(directory);
    let decompressed = |name: &str| {
        let file = std::fs::File::open(directory.join(format!("{name}.zst"))).unwrap();
        zstd::decode_all(file).unwrap()
    };
    let facts = std::fs::read_to_string(directory.join("facts.txt")).unwrap();
    let fact = |name: &str| {
        facts.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    Golden {
        main: decompressed("main"),
        channels: (0..channels).map(|id| decompressed(&format!("channel{id}"))).collect(),
        return_path: decompressed("return-path"),
        normal_pages: fact("normal").parse().unwrap(),
        zero_pages: fact("duplicate").parse().unwrap(),
        memory_fnv: u64::from_str_radix(&fact("memory"), 16).unwrap(),
    }
}

/// FNV-1a, 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
