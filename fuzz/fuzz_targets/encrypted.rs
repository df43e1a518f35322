#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| novacron_fuzz::vault::encrypted(input));
