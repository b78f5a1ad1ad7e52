use super::*;

#[test]
fn the_end_points_are_told_apart_whatever_the_name_is() {
    for name in ["demo/web", "demo/a/b/c", "demo/manifests", "demo/blobs/uploads", "demo/tags/list/x", "d/v2/_catalog"]
    {
        let at = |rest: &str| format!("/v2/{name}/{rest}");
        for (rest, part) in [
            ("manifests/v1", Part::Manifest("v1".into())),
            ("manifests/sha256:00", Part::Manifest("sha256:00".into())),
            ("manifests/sha256%3A00", Part::Manifest("sha256:00".into())),
            ("blobs/sha256:00", Part::Blob("sha256:00".into())),
            ("blobs/uploads/", Part::Uploads),
            ("blobs/uploads", Part::Uploads),
            ("blobs/uploads/1234", Part::Upload("1234".into())),
            ("tags/list", Part::Tags),
            ("referrers/sha256:00", Part::Referrers("sha256:00".into())),
        ] {
            assert_eq!(Endpoint::of(&at(rest)), Endpoint::Repository(name, part), "{name} {rest}");
        }
    }
}

#[test]
fn other_paths_are_no_repositories() {
    for (path, expected) in [
        ("/v2/", Endpoint::Base),
        ("/v2", Endpoint::Base),
        ("/token", Endpoint::Token),
        ("/healthcheck", Endpoint::Health),
        ("/v2/_catalog", Endpoint::Catalog),
        ("/", Endpoint::Other),
        ("/v1/_ping", Endpoint::Other),
        ("/v2/demo", Endpoint::Other),
        ("/v2/demo/web", Endpoint::Other),
        ("/v2/demo/web/manifests", Endpoint::Other),
        ("/v2x/demo/web/tags/list", Endpoint::Other),
    ] {
        assert_eq!(Endpoint::of(path), expected, "{path}");
    }
}
