//! Writes the wire cases as seeds for the fuzz target: one file a case, its first byte the version.

#[allow(dead_code, unused_imports)]
#[path = "../../src/codec/mod.rs"]
mod codec;

#[allow(dead_code)]
#[path = "../../src/codec/cases/mod.rs"]
mod cases;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()).into();
    std::fs::create_dir_all(&folder)?;
    let mut written = 0;
    for (number, case) in cases::all().into_iter().enumerate() {
        // The few long ones would only make each run slow.
        if case.bytes.len() > 512 {
            continue;
        }
        let mut seed = vec![case.version as u8];
        seed.extend_from_slice(&case.bytes);
        std::fs::write(folder.join(format!("case-{number:04}")), seed)?;
        written += 1;
    }
    println!("{written} seeds in {}", folder.display());
    Ok(())
}
