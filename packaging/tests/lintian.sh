# Run by `cargo lab packages` in a root with lintian.
lintian --version
lintian --fail-on error --allow-root --tag-display-limit 0 /packages/*.deb
