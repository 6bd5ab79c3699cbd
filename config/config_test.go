package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/config"
)

// environment is a Getenv over "NAME=value" pairs.
func environment(pairs ...string) config.Getenv {
	return func(name string) string {
		for _, p := range pairs {
			if k, v, _ := strings.Cut(p, "="); k == name {
				return v
			}
		}
		return ""
	}
}

// rootWith returns a root whose configuration file has that text.
func rootWith(t *testing.T, text string) string {
	t.Helper()
	root := t.TempDir()
	path := filepath.Join(root, "etc/npcnix/reconciler.yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

const reconcilerFile = `apiVersion: npcnix.dev/v1alpha1
kind: ReconcilerConfig
store: file:///from-file
host: from-file
stateDir: /from-file
log: {format: console, level: debug}
`

func TestFlagsBeatEnvironmentBeatsFile(t *testing.T) {
	t.Parallel()
	root := rootWith(t, reconcilerFile)
	for name, c := range map[string]struct {
		flags config.ReconcilerConfig
		env   config.Getenv
		want  string
	}{
		"file":        {config.ReconcilerConfig{}, environment(), "file:///from-file from-file /from-file"},
		"environment": {config.ReconcilerConfig{}, environment("NPCNIX_STORE=file:///env", "NPCNIX_HOST=env", "NPCNIX_STATE_DIR=/env"), "file:///env env /env"},
		"flags": {
			config.ReconcilerConfig{Store: "file:///flag", Host: "flag", StateDir: "/flag"},
			environment("NPCNIX_STORE=file:///env", "NPCNIX_HOST=env", "NPCNIX_STATE_DIR=/env"), "file:///flag flag /flag",
		},
	} {
		got, err := config.LoadReconciler(root, "", c.flags, c.env)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if have := strings.Join([]string{got.Store, got.Host, got.StateDir}, " "); have != c.want || got.Log.Format != "console" || got.Log.Level != "debug" {
			t.Errorf("%s: %s %+v, want %s", name, have, got.Log, c.want)
		}
	}
}

func TestExamplesAreWhatTheProgramsRead(t *testing.T) {
	t.Parallel()
	got, err := config.LoadReconciler("/", "../examples/config/reconciler.yaml", config.ReconcilerConfig{}, environment())
	if err != nil || got.Store != "s3://infra/npcnix?region=eu-central-1" || got.Host != "web-1" {
		t.Errorf("%+v %v", got, err)
	}
	for name, want := range map[string]string{"": "s3://infra/npcnix?region=eu-central-1", "trial": "file:///tmp/trial/store"} {
		url, err := config.LoadStore(config.ClientFlags{Config: "../examples/config/config.yaml", Context: name}, environment())
		if err != nil || url != want {
			t.Errorf("%s: %s %v", name, url, err)
		}
	}
}

func TestDefaultsOfTheAgent(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	got, err := config.LoadReconciler(root, "", config.ReconcilerConfig{Store: "file:///x"}, environment())
	name, hostErr := os.Hostname()
	if err != nil || hostErr != nil || got.Host != name || got.StateDir != filepath.Join(root, "var/lib/npcnix") || got.Log != (config.Log{Format: "json", Level: "info"}) {
		t.Errorf("%+v %v %v", got, err, hostErr)
	}
}

func TestFileThatIsNamedMustBeThere(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	flags := config.ReconcilerConfig{Store: "file:///x"}
	for _, env := range []config.Getenv{environment(), environment("NPCNIX_CONFIG=" + root + "/absent")} {
		named := "/absent"
		if env("NPCNIX_CONFIG") != "" {
			named = ""
		}
		if _, err := config.LoadReconciler(root, named, flags, env); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	}
}

func TestConfigurationIsStrict(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: npcnix.dev/v1alpha1\nkind: ReconcilerConfig\nstore: file:///x\n"
	for text, want := range map[string]string{
		head + "sore: x\n":                               `sore: unknown field (did you mean "store"?)`,
		head + "host: Not_A_Name\n":                      "host: Invalid value",
		head + "stateDir: relative\n":                    "stateDir: Invalid value",
		head + "log: {format: xml}\n":                    "log.format: Unsupported value",
		head + "log: {level: trace}\n":                   "log.level: Unsupported value",
		strings.Replace(head, "Reconciler", "Client", 1): `kind: found "ClientConfig", expected ReconcilerConfig`,
		"": "the file is empty",
		"apiVersion: npcnix.dev/v1alpha1\nkind: ReconcilerConfig\nhost: x\n": "no store",
		strings.Repeat("#", 300_000):                                         "256 KiB",
	} {
		_, err := config.LoadReconciler(rootWith(t, text), "", config.ReconcilerConfig{}, environment())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: error %v, want %s", text, err, want)
		}
	}
}
