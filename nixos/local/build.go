package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/run"
)

// Build runs nix build in the flake's directory: a path in a flake reference
// would have to be a URL, and Nix 2.8 does not decode one. The attribute is quoted for the flake reference's
// syntax; the flake may not choose substituters, nor change its lock file.
func (m *Machine) Build(ctx context.Context, req nixos.BuildRequest) (string, error) {
	if err := os.MkdirAll(filepath.Dir(req.OutLink), 0o700); err != nil { // Nix 2.8 ignores that it cannot link
		return "", fmt.Errorf("make directory of roots: %w", err)
	}
	installable := `path:.#nixosConfigurations."` + req.Attribute + `".config.system.build.toplevel`
	result, err := m.nixIn(ctx, buildUnits, req.Dir, req.Limit, "nix", experimental("build", "--json", "--out-link", req.OutLink,
		"--no-update-lock-file", "--option", "accept-flake-config", "false",
		"--option", "narinfo-cache-negative-ttl", "0", installable)...) // else a path that a cache has since stays "missing" for an hour
	if req.Log != "" && len(result.Stderr) > 0 { // for people; the build counts without it
		_ = os.MkdirAll(filepath.Dir(req.Log), 0o700)
		_ = os.WriteFile(req.Log, result.Stderr, 0o600)
	}
	switch {
	case errors.Is(err, run.ErrLimit):
		return "", &nixos.BuildError{Failure: nixos.BuilderFailure, ExitCode: -1, Message: fmt.Sprintf("the build took longer than its limit, %s", req.Limit)}
	case err != nil:
		return "", err
	case result.ExitCode != 0:
		return "", m.buildError(ctx, result)
	}
	return readBuilt(result.Stdout, req.OutLink)
}

// readBuilt reads what nix build --json printed, from Nix 2.8 on:
// [{"drvPath": …, "outputs": {"out": …}}].
func readBuilt(stdout []byte, outLink string) (string, error) {
	var built []struct {
		Outputs map[string]string `json:"outputs"`
	}
	if err := json.Unmarshal(stdout, &built); err != nil || len(built) != 1 || built[0].Outputs["out"] == "" {
		return "", fmt.Errorf("nix build printed no output path: %.200q", stdout)
	}
	toplevel := built[0].Outputs["out"]
	if target, err := os.Readlink(outLink); err != nil || target != toplevel {
		return "", fmt.Errorf("nix build did not root %s at %s", toplevel, outLink)
	}
	return toplevel, nil
}

// CollectGarbage runs Nix's own. Generations are no garbage; see Retain.
func (m *Machine) CollectGarbage(ctx context.Context, limit time.Duration) error {
	result, err := m.nixIn(ctx, buildUnits, "/", limit, "nix-store", "--gc")
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("nix-store --gc: exit code %d: %s", result.ExitCode, humanTail(string(result.Stderr)))
	}
	return nil
}

// Built reports whether out link still roots the toplevel.
func (*Machine) Built(_ context.Context, outLink, toplevel string) bool {
	target, err := os.Readlink(outLink)
	if err != nil || target != toplevel {
		return false
	}
	_, err = os.Lstat(toplevel)
	return err == nil
}

// buildError judges what Nix printed. Whether a derivation that failed over the
// network may use the network at all only Nix can tell: its test suite may
// print the same words.
func (m *Machine) buildError(ctx context.Context, result run.Result) *nixos.BuildError {
	failure := classify(string(result.Stderr))
	if failure.fixedOutput != "" && !m.hasFixedOutput(ctx, failure.fixedOutput) {
		failure.kind = nixos.BuilderFailure
	}
	return &nixos.BuildError{Failure: failure.kind, Message: failure.message, ExitCode: result.ExitCode}
}

// hasFixedOutput reports whether the derivation's output is known by its hash,
// which is what gives its builder the network.
func (m *Machine) hasFixedOutput(ctx context.Context, derivation string) bool {
	for _, verb := range [][]string{{"show-derivation"}, {"derivation", "show"}} { // until 2.14, and since
		result, err := m.nix(ctx, "nix", experimental(append(verb, derivation)...)...)
		if err == nil && result.ExitCode == 0 {
			return strings.Contains(string(result.Stdout), `"hash":`)
		}
	}
	return false
}
