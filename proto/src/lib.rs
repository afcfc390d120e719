//! The contract between the services: messages and service traits generated from the `.proto` files, the table of bus
//! subjects ([`subjects`]), the table of who may call what ([`permissions`]).
//!
//! The generated server traits are the ports of the system: a gateway holds `Arc<dyn Verification>`, which is the
//! implementation itself where both run in one process, and a client over mutual TLS ([`remote`]) where they do not.

pub mod bus_permissions;
pub mod once;
pub mod permissions;
pub mod pins;
pub mod remote;
mod runs;
mod secret;
pub mod subjects;

/// The generated code, in the modules of its packages.
mod twinlock {
    pub mod common {
        pub mod v1 {
            tonic::include_proto!("twinlock.common.v1");
        }
    }
    pub mod directory {
        pub mod v1 {
            tonic::include_proto!("twinlock.directory.v1");
        }
    }
    pub mod user_store {
        pub mod v1 {
            tonic::include_proto!("twinlock.user_store.v1");
        }
    }
    pub mod verification {
        pub mod v1 {
            tonic::include_proto!("twinlock.verification.v1");
        }
    }
}

pub use twinlock::{
    common::v1 as common, directory::v1 as directory, user_store::v1 as user_store, verification::v1 as verification,
};
