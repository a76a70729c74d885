//! Writes the CRD YAML of the three kinds into the folder given as the only argument (default: `crds`).

use std::path::PathBuf;

use kube::ResourceExt as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "crds".to_owned()));
    for crd in vitrine_crds::definitions() {
        let path = folder.join(format!("{}.yaml", crd.name_any()));
        std::fs::write(&path, vitrine_crds::yaml(&crd)?)?;
        println!("{}", path.display());
    }
    Ok(())
}
