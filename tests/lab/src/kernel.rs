//! The guest's kernel: Debian's own 6.12 image, plus the drivers that Debian leaves out.
//!
//! vivid and vgem come with Debian's image. vim2m, vicodec, vimc, vkms and raw_gadget do not (on amd64
//! neither does the v4l2-mem2mem core), so they are built from Debian's source of the same version
//! against Debian's headers, together with our own drivers in `modules/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{self, Apt};
use crate::arch::{self, Arch};
use crate::cache::{hash, Cache};
use crate::exec::run;
use crate::say;
use crate::Res;

/// (name and folder in the build tree, Kconfig symbol, place in the kernel's source, own Kbuild
/// file for places that hold more than the one driver)
const OUT_OF_TREE: [(&str, &str, &str, &str); 6] = [
    ("v4l2-mem2mem", "CONFIG_V4L2_MEM2MEM_DEV", "drivers/media/v4l2-core/v4l2-mem2mem.c", "obj-m += v4l2-mem2mem.o\n"),
    ("vim2m", "CONFIG_VIDEO_VIM2M", "drivers/media/test-drivers/vim2m.c", "obj-m += vim2m.o\n"),
    ("vicodec", "CONFIG_VIDEO_VICODEC", "drivers/media/test-drivers/vicodec", ""),
    ("vimc", "CONFIG_VIDEO_VIMC", "drivers/media/test-drivers/vimc", ""),
    ("vkms", "CONFIG_DRM_VKMS", "drivers/gpu/drm/vkms", ""),
    ("raw_gadget", "CONFIG_USB_RAW_GADGET", "drivers/usb/gadget/legacy/raw_gadget.c", "obj-m += raw_gadget.o\n"),
];

/// vkms of Linux 6.12 can stop a machine of two processors: the processor that disables vblanks holds DRM's lock and
/// waits for the timer's function on the other processor, which waits for that lock. With this change the function ends
/// by itself, as in DRM's own vblank timer of later kernels. Old and new text of one file.
const VKMS_FILE: &str = "vkms_crtc.c";
const VKMS_REPAIR: [(&str, &str); 4] = [
    (
        "\thrtimer_cancel(&out->vblank_hrtimer);",
        "\tWRITE_ONCE(out->period_ns, 0);\n\thrtimer_try_to_cancel(&out->vblank_hrtimer);",
    ),
    ("\thrtimer_init(&out->vblank_hrtimer", "\tif (!out->vblank_hrtimer.function)\n\t\thrtimer_init(&out->vblank_hrtimer"),
    (
        "\tfence_cookie = dma_fence_begin_signalling();",
        "\tif (!READ_ONCE(output->period_ns))\n\t\treturn HRTIMER_NORESTART;\n\tfence_cookie = dma_fence_begin_signalling();",
    ),
    ("\treturn HRTIMER_RESTART;", "\treturn READ_ONCE(output->period_ns) ? HRTIMER_RESTART : HRTIMER_NORESTART;"),
];

const SOURCE_STEP: &str = "source";

pub struct Kernel {
    /// As in `uname -r`, for instance `6.12.95+deb12-amd64`.
    pub release: String,
    pub image: PathBuf,
    /// Debian's modules (`*.ko.xz`).
    pub debian_modules: PathBuf,
    /// Ours, in one flat folder (`*.ko`).
    pub built_modules: PathBuf,
    /// Names of the drivers under `tests/lab/modules`, which the guest loads at start.
    pub own: Vec<String>,
}

pub fn prepare(cache: &Cache, arch: Arch, lab: &Path) -> Res<Kernel> {
    let suite = suite()?;
    let note = format!("kernel-version.{suite}");
    let kernel_step = format!("kernel-{arch}");
    let source_of = |version: &str| format!("{version} {}", OUT_OF_TREE.map(|d| d.2).join(" "));
    let release_of = |version: &str| format!("{version}-{}", arch.debian());
    // Files that are here are used. Once anything must be fetched, the newest version is: mirrors do not
    // keep old ones.
    let complete =
        |version: &String| cache.has(SOURCE_STEP, &source_of(version)) && cache.has(&kernel_step, &release_of(version));
    let (version, apt) = match cache.note(&note).filter(complete) {
        Some(version) => (version, None),
        None => {
            let apt = Apt::open(cache, suite, &["amd64", "arm64"])?;
            let version = newest(&apt)?;
            cache.set_note(&note, &version)?;
            (version, Some(apt))
        }
    };
    let apt = || apt.as_ref().ok_or("the cache changed under our hands; try again".to_string());
    let release = release_of(&version);
    let source = cache.step(SOURCE_STEP, &source_of(&version), |dir| unpack_source(apt()?, dir))?;
    let debian = cache.step(&kernel_step, &release, |dir| unpack_kernel(apt()?, &version, arch, dir))?;
    let own = own_modules(&lab.join("modules"))?;
    let mut key =
        format!("{release} {} {} {}", debian.display(), source.display(), hash(format!("{VKMS_REPAIR:?}").as_bytes()));
    for (name, folder) in &own {
        key.push_str(&format!("\n{name} {}", hash_folder(folder)?));
    }
    let built =
        cache.step(&format!("modules-{arch}"), &key, |dir| build(arch, &release, &debian, &source, &own, dir))?;
    Ok(Kernel {
        image: debian.join("boot").join(format!("vmlinuz-{release}")),
        debian_modules: modules_folder(&debian, &release),
        built_modules: built,
        own: own.into_iter().map(|(name, _)| name).collect(),
        release,
    })
}

/// Linux 6.12 is Debian 13's own kernel; Debian 12 has it among the backports. The host's release
/// decides, because the kernel's build tools must run here.
fn suite() -> Res<&'static str> {
    match apt::codename().as_str() {
        "bookworm" => Ok("bookworm-backports"),
        "trixie" => Ok("trixie"),
        "" => Err("this is not a Debian machine: the lab needs Debian 12 or 13".into()),
        other => Err(format!("the lab needs Debian 12 or 13, this is \"{other}\"")),
    }
}

/// The newest 6.12 for which the suite still has image, headers and build tools: old ones linger
/// there without their images.
fn newest(apt: &Apt) -> Res<String> {
    let names = apt.names("linux-")?;
    let complete = |version: &&str| {
        let have = |name: String| names.contains(&name);
        have(format!("linux-kbuild-{version}"))
            && have(format!("linux-headers-{version}-common"))
            && arch::ALL.iter().all(|a| {
                have(format!("linux-image-{version}-{}-unsigned", a.debian()))
                    && have(format!("linux-headers-{version}-{}", a.debian()))
            })
    };
    let mut versions: Vec<&str> = names
        .iter()
        .filter_map(|n| n.strip_prefix("linux-kbuild-"))
        .filter(|v| v.starts_with("6.12."))
        .filter(complete)
        .collect();
    versions.sort_by_key(|v| numbers(v));
    let newest = versions.last().ok_or("Debian's mirror has no complete set of Linux 6.12 packages")?;
    let kbuild = apt.version(&format!("linux-kbuild-{newest}"))?;
    let source = apt.version("linux-source-6.12")?;
    if kbuild != source {
        say!("note: linux-source-6.12 is {source:?}, the kernel {kbuild:?}; building anyway");
    }
    Ok(newest.to_string())
}

/// `6.12.95+deb12` as [6, 12, 95, 12], so that 6.12.100 sorts behind 6.12.95.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

fn unpack_source(apt: &Apt, dir: &Path) -> Res<()> {
    let deb = dir.join("deb");
    apt.unpack(&["linux-source-6.12".into()], &deb)?;
    say!("unpacking the drivers that Debian does not build");
    run(Command::new("tar")
        .current_dir(dir)
        .args(["--strip-components=1", "-xJf"])
        .arg(deb.join("usr/src/linux-source-6.12.tar.xz"))
        .args(OUT_OF_TREE.map(|d| format!("linux-source-6.12/{}", d.2))))?;
    crate::cache::remove_dir(&deb)
}

fn unpack_kernel(apt: &Apt, version: &str, arch: Arch, dir: &Path) -> Res<()> {
    let deb = arch.debian();
    let host = Arch::host().ok_or("the lab runs on x86_64 and aarch64 machines only")?;
    let packages = [
        format!("linux-image-{version}-{deb}-unsigned:{deb}"),
        format!("linux-headers-{version}-{deb}:{deb}"),
        format!("linux-headers-{version}-common"),
        format!("linux-kbuild-{version}:{}", host.debian()),
    ];
    apt.unpack(&packages, dir)
}

/// Debian 12 has them in /lib, Debian 13 in /usr/lib.
fn modules_folder(debian: &Path, release: &str) -> PathBuf {
    let [old, new] = ["lib/modules", "usr/lib/modules"].map(|f| debian.join(f).join(release));
    if old.is_dir() {
        old
    } else {
        new
    }
}

/// The folders of `modules/`, by name.
fn own_modules(modules: &Path) -> Res<Vec<(String, PathBuf)>> {
    let mut own = Vec::new();
    for entry in fs::read_dir(modules).into_iter().flatten().flatten() {
        if entry.path().join("Kbuild").is_file() {
            own.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    own.sort();
    Ok(own)
}

fn hash_folder(folder: &Path) -> Res<String> {
    let mut all = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_file())
        .collect();
    files.sort();
    for file in files {
        all.extend(file.file_name().unwrap_or_default().as_encoded_bytes());
        all.extend(fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?);
    }
    Ok(hash(&all))
}

/// Replaces what is there exactly once, or leaves a file that is another one by now as it is.
fn repair(file: &Path, changes: &[(&str, &str)]) -> Res<()> {
    let mut text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    if changes.iter().any(|(old, _)| text.matches(old).count() != 1) {
        say!("note: {} has changed; leaving it as it is", file.display());
        return Ok(());
    }
    changes.iter().for_each(|(old, new)| text = text.replace(old, new));
    write(file, &text)
}

fn build(arch: Arch, release: &str, debian: &Path, source: &Path, own: &[(String, PathBuf)], dir: &Path) -> Res<()> {
    let compiler = format!("{}-gcc", arch.gnu());
    let headers = debian.join("usr/src").join(format!("linux-headers-{release}"));
    relocate(&headers, debian)?;
    let config = fs::read_to_string(headers.join(".config")).map_err(|e| format!("{}: {e}", headers.display()))?;
    let tree = dir.join("build");
    let mut folders = Vec::new();
    let mut options = Vec::new();
    for (name, symbol, place, kbuild) in OUT_OF_TREE {
        if config.contains(&format!("\n{symbol}=m")) || config.contains(&format!("\n{symbol}=y")) {
            continue; // Debian builds it for this architecture
        }
        let from = source.join(place);
        copy_files(&from, &tree.join(name))?;
        if name == "vkms" {
            repair(&tree.join(name).join(VKMS_FILE), &VKMS_REPAIR)?;
        }
        if !kbuild.is_empty() {
            write(&tree.join(name).join("Kbuild"), kbuild)?;
        }
        options.push(format!("{symbol}=m"));
        folders.push(name);
    }
    for (name, folder) in own {
        copy_files(folder, &tree.join(name))?;
        folders.push(name);
    }
    let kbuild: String = folders.iter().map(|f| format!("obj-m += {f}/\n")).collect();
    write(&tree.join("Kbuild"), &kbuild)?;
    say!("building {} for {release}", folders.join(", "));
    run(Command::new("make")
        .arg("-C")
        .arg(&headers)
        .arg(format!("M={}", tree.display()))
        .arg(format!("ARCH={}", arch.kernel()))
        .arg(format!("CC={compiler}"))
        // Type information would need the whole vmlinux and pahole.
        .arg("CONFIG_DEBUG_INFO_BTF_MODULES=")
        .args(&options)
        .arg("modules"))?;
    for folder in &folders {
        for entry in fs::read_dir(tree.join(folder)).map_err(|e| e.to_string())?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "ko") {
                // Debug information is most of its size, and is loaded at every start.
                run(Command::new(format!("{}-strip", arch.gnu())).arg("--strip-debug").arg(&path))?;
                fs::rename(&path, dir.join(entry.file_name())).map_err(|e| e.to_string())?;
            }
        }
    }
    crate::cache::remove_dir(&tree)
}

/// Debian's headers point to their common part by an absolute path under /usr/src.
fn relocate(headers: &Path, root: &Path) -> Res<()> {
    let makefile = headers.join("Makefile");
    let text = fs::read_to_string(&makefile).map_err(|e| format!("{}: {e}", makefile.display()))?;
    let moved = text.replace("include /usr/src/", &format!("include {}/usr/src/", root.display()));
    write(&makefile, &moved)
}

fn write(path: &Path, text: &str) -> Res<()> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Copies one file, or the files of one folder, into a new folder.
fn copy_files(from: &Path, into: &Path) -> Res<()> {
    let say = |e| format!("{}: {e}", from.display());
    fs::create_dir_all(into).map_err(say)?;
    if from.is_file() {
        fs::copy(from, into.join(from.file_name().unwrap_or_default())).map_err(say)?;
        return Ok(());
    }
    for entry in fs::read_dir(from).map_err(say)?.flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), into.join(entry.file_name())).map_err(say)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_number() {
        let mut all = ["6.12.95+deb12", "6.12.100+deb12", "6.12.90+deb12.1", "6.12.90+deb12"];
        all.sort_by_key(|v| numbers(v));
        assert_eq!(all[0], "6.12.90+deb12");
        assert_eq!(all[1], "6.12.90+deb12.1");
        assert_eq!(all[3], "6.12.100+deb12");
    }
}
