//! A cluster without nodes around the real operator: apiserver and etcd, scripted workloads, and a proxy
//! that counts and disturbs. Used by the fault campaigns (`main.rs`) and by the scale benchmark (`bench/`).

pub mod completer;
pub mod operator;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod rig;
