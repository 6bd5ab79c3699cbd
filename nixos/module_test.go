package nixos_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// nix runs a command of real Nix and returns what it prints.
func nix(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, &stderr)
	}
	return string(out)
}

// evaluated is what the module makes of settings.
type evaluated struct {
	Config   map[string]any    `json:"config"`
	Units    map[string]string `json:"units"`
	Tmpfiles []string          `json:"tmpfiles"`
}

func evaluate(t *testing.T, user string) evaluated {
	t.Helper()
	module, err := filepath.Abs("module.nix")
	if err != nil {
		t.Fatal(err)
	}
	out := nix(t, "nix-instantiate", "--eval", "--strict", "--json", "testdata/eval.nix", "--argstr", "module", module, "--arg", "user", user)
	var result evaluated
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestModuleMakesTheUnits(t *testing.T) {
	t.Parallel()
	units := evaluate(t, `{ enable = true; settings.store = "s3://infra/npcnix"; environmentFile = "/run/keys/npcnix"; }`).Units
	for name, unit := range units {
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, []byte(unit), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), unit); diff != "" {
			t.Errorf("%s changed; make golden writes it anew:\n%s", name, diff)
		}
	}
	if len(units) != 2 {
		t.Errorf("%d units", len(units))
	}
}

func TestModuleWithoutCredentialsNamesNoFile(t *testing.T) {
	t.Parallel()
	if units := evaluate(t, `{ enable = true; }`).Units; strings.Contains(units["npcnix-reconciler.service"], "EnvironmentFile") {
		t.Errorf("units are %s", units)
	}
}

// A state directory that StateDirectory= does not make is there before the
// hardened unit starts, which may write nothing else.
func TestModuleMakesAnotherStateDirectory(t *testing.T) {
	t.Parallel()
	if usual := evaluate(t, `{ enable = true; }`); len(usual.Tmpfiles) != 0 {
		t.Errorf("rules %q", usual.Tmpfiles)
	}
	other := evaluate(t, `{ enable = true; settings.stateDir = "/persist/npcnix"; }`)
	if unit := other.Units["npcnix-reconciler.service"]; len(other.Tmpfiles) != 1 || other.Tmpfiles[0] != "d /persist/npcnix 0700 root root -" || !strings.Contains(unit, "ReadWritePaths=/persist/npcnix") {
		t.Errorf("rules %q, unit\n%s", other.Tmpfiles, unit)
	}
}

// What the module writes is what the agent reads.
func TestModuleWritesTheAgentsConfiguration(t *testing.T) {
	t.Parallel()
	settings := evaluate(t, `{ enable = true; settings = { store = "s3://infra/npcnix"; host = "web-1"; log.level = "debug"; }; }`).Config
	data, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	c, err := codec.DecodeStrict[config.ReconcilerConfig](codec.Document{Source: "settings", Raw: data}, config.KindReconcilerConfig)
	if err != nil || c.Store != "s3://infra/npcnix" || c.Host != "web-1" || c.Log.Level != "debug" {
		t.Errorf("configuration %+v, %v", c, err)
	}
}

// The flake evaluates against a stub of nixpkgs, and offers what the README says.
func TestFlakeOffersPackagesAndModule(t *testing.T) {
	t.Parallel()
	dir, nixpkgs := t.TempDir(), t.TempDir()
	for _, name := range []string{"flake.nix", "nixos/module.nix", "nixos/package.nix"} {
		data, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stub := `{ outputs = _: rec {
  lib.genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
  legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] (system: {
    callPackage = file: args: import file ({
      stdenv.hostPlatform.isLinux = builtins.match ".*-linux" system != null;
      lib = { cleanSource = s: s; optional = c: e: if c then [ e ] else [ ]; licenses.asl20 = "Apache-2.0"; };
      buildGoModule = a: { inherit (a) pname subPackages vendorHash; };
    } // args);
  });
}; }`
	if err := os.WriteFile(filepath.Join(nixpkgs, "flake.nix"), []byte(stub), 0o600); err != nil {
		t.Fatal(err)
	}
	eval := func(attribute string) string {
		return nix(t, "nix", "--extra-experimental-features", "nix-command flakes", "eval", "--json",
			"--override-input", "nixpkgs", "path:"+nixpkgs, "--no-write-lock-file", "path:"+dir+"#"+attribute)
	}
	if got := eval("packages.x86_64-linux.default.subPackages"); strings.TrimSpace(got) != `["cmd/npcnix","cmd/npcnix-reconciler"]` {
		t.Errorf("packages for Linux: %s", got)
	}
	if got := eval("packages.aarch64-darwin.default.subPackages"); strings.TrimSpace(got) != `["cmd/npcnix"]` {
		t.Errorf("packages for Darwin: %s", got)
	}
	if got := nix(t, "nix", "--extra-experimental-features", "nix-command flakes", "eval", "--json",
		"--override-input", "nixpkgs", "path:"+nixpkgs, "--no-write-lock-file", "path:"+dir+"#nixosModules", "--apply", "m: builtins.isFunction m.default"); strings.TrimSpace(got) != "true" {
		t.Errorf("module: %s", got)
	}
}

func TestVendorHashIsFresh(t *testing.T) {
	t.Parallel()
	vendor := filepath.Join(t.TempDir(), "vendor")
	nix(t, "go", "mod", "vendor", "-o", vendor)
	want := strings.TrimSpace(nix(t, "nix", "--extra-experimental-features", "nix-command", "hash", "path", vendor))
	data, err := os.ReadFile("package.nix")
	if err != nil {
		t.Fatal(err)
	}
	field := regexp.MustCompile(`vendorHash = "[^"]*"`)
	line := `vendorHash = "` + want + `"`
	if *update {
		if err := os.WriteFile("package.nix", field.ReplaceAll(data, []byte(line)), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := field.FindString(string(data)); got != line {
		t.Errorf("package.nix has %s, go mod vendor gives %s; make golden writes it anew", got, line)
	}
}
