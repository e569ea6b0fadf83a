"""The programs behind the scripts at the top: each module has `main(argv) -> exit code`."""
