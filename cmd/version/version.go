package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// String returns version and commit, such as "v0.1.0 (1f2e3d4c5b6a)".
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return format(info)
}

// Long returns String with the Go version and the platform.
func Long(program string) string {
	return fmt.Sprintf("%s %s %s %s/%s", program, String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func format(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	commit := settings["vcs.revision"]
	if commit == "" {
		return version
	}
	commit = commit[:min(len(commit), 12)]
	if settings["vcs.modified"] == "true" {
		commit += "-dirty"
	}
	return version + " (" + commit + ")"
}
