//! Where the configuration is: what is read by default, then what the command line names, in its order (oslo.config).

use std::path::{Path, PathBuf};

use nova_docker_service::config::Source;

/// Whose files are read by default: those of the project, then those of the program whose place the agent takes.
const NAMES: [&str; 2] = ["nova", "nova-compute"];

/// All sources of a command line that names these. The default files are read unless it names a file, and the default directories
/// unless it names a directory; later values win.
pub fn sources(named: Vec<Source>) -> Vec<Source> {
    let snap = |name| std::env::var_os(name).map(PathBuf::from);
    let home = std::env::home_dir();
    let places = places(home.as_deref(), Path::new("/etc"), [snap("SNAP_COMMON"), snap("SNAP")]);
    let sources = after_defaults(named, &places, home.as_deref());
    // Of nothing at all it is said which file is missing.
    if sources.is_empty() { vec![Source::File(super::DEFAULT_FILE.into())] } else { sources }
}

/// Where files are looked for, the first place first.
fn places(home: Option<&Path>, etc: &Path, snaps: [Option<PathBuf>; 2]) -> Vec<PathBuf> {
    let project = NAMES[0];
    let of_user = home.into_iter().flat_map(|home| [home.join(format!(".{project}")), home.to_owned()]);
    let of_snap = snaps.into_iter().flatten().map(|snap| snap.join("etc").join(project));
    of_user.chain([etc.join(project), etc.to_owned()]).chain(of_snap).collect()
}

fn after_defaults(named: Vec<Source>, places: &[PathBuf], home: Option<&Path>) -> Vec<Source> {
    let names_file = named.iter().any(|source| matches!(source, Source::File(_)));
    let names_directory = named.iter().any(|source| matches!(source, Source::Directory(_)));
    let found = |extension: &'static str| {
        NAMES.iter().filter_map(move |name| {
            places.iter().map(|place| place.join(format!("{name}{extension}"))).find(|path| path.exists())
        })
    };
    let files = found(".conf").filter(|_| !names_file).map(Source::File);
    let directories = found(".conf.d").filter(|_| !names_directory).map(Source::Directory);
    let named = named.into_iter().map(|source| match source {
        Source::File(path) => Source::File(expanded(path, home)),
        Source::Directory(path) => Source::Directory(expanded(path, home)),
    });
    files.chain(directories).chain(named).collect()
}

/// `~/` at the beginning of a path is the user's home.
fn expanded(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A home and an `/etc` with these files; a name that ends with a slash is a directory.
    fn host(paths: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::write(path, "").unwrap();
            }
        }
        let (home, snap) = (root.path().join("home"), root.path().join("snap"));
        let places = places(Some(&home), &root.path().join("etc"), [None, Some(snap)]);
        (root, places)
    }

    fn read(paths: &[&str], named: &[Source]) -> Vec<String> {
        let (root, places) = host(paths);
        let home = root.path().join("home");
        let sources = after_defaults(named.to_vec(), &places, Some(&home));
        let below = |source: &Source| {
            let path = source.path().strip_prefix(root.path()).unwrap_or(source.path()).display().to_string();
            if matches!(source, Source::Directory(_)) { path + "/" } else { path }
        };
        sources.iter().map(below).collect()
    }

    #[test]
    fn without_a_command_line_the_files_of_nova_and_of_nova_compute_are_read_and_then_their_directories() {
        let etc =
            ["etc/nova/nova.conf", "etc/nova/nova-compute.conf", "etc/nova/nova.conf.d/", "etc/nova-compute.conf.d/"];
        assert_eq!(read(&etc, &[]), etc);
        assert!(read(&[], &[]).is_empty());
    }

    #[test]
    fn of_each_name_the_first_place_counts() {
        let all = [
            "home/.nova/nova.conf",
            "home/nova.conf",
            "etc/nova/nova.conf",
            "etc/nova.conf",
            "snap/etc/nova/nova.conf",
        ];
        for first in 0..all.len() {
            assert_eq!(read(&all[first..], &[]), [all[first]]);
        }
    }

    #[test]
    fn a_named_file_replaces_the_default_files_and_a_named_directory_the_default_directories() {
        let etc = ["etc/nova/nova.conf", "etc/nova/nova.conf.d/"];
        let (file, directory) = (Source::File("/a".into()), Source::Directory("/d".into()));
        assert_eq!(read(&etc, std::slice::from_ref(&file)), ["etc/nova/nova.conf.d/", "/a"]);
        assert_eq!(read(&etc, std::slice::from_ref(&directory)), ["etc/nova/nova.conf", "/d/"]);
        assert_eq!(read(&etc, &[directory, file]), ["/d/", "/a"], "in the order of the command line");
    }

    #[test]
    fn a_tilde_that_no_shell_has_expanded_is_the_users_home() {
        let named = [Source::File("~/mine.conf".into()), Source::File("/x/~/y".into())];
        assert_eq!(read(&[], &named), ["home/mine.conf", "/x/~/y"]);
    }
}
