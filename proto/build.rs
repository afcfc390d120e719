//! Compiles the contract with protox: no protoc on any machine.

use std::error::Error;

const FILES: &[&str] =
    &["twinlock/common.proto", "twinlock/directory.proto", "twinlock/user_store.proto", "twinlock/verification.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=twinlock");
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        // Debug of a Secret is written by hand, and shows nothing.
        .skip_debug(["twinlock.common.v1.Secret"])
        // A call that waits for a person holds its request several times over.
        .boxed("twinlock.verification.v1.BeginRequest.attempt")
        // Nearly every reply is an outcome, and none is kept.
        .type_attribute("twinlock.verification.v1.WaitingReply.reply", "#[allow(clippy::large_enum_variant)]")
        .compile_fds(descriptors)?;
    Ok(())
}
