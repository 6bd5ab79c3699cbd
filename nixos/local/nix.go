package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/npcnix/npcnix/nixos/run"
)

const (
	daemonSocket = "/nix/var/nix/daemon-socket/socket"
	dialLimit    = 2 * time.Second
	queryLimit   = 2 * time.Minute
	// maxVersion bounds the name of a version, in bytes.
	maxVersion = 64
	// smallMemory is the memory below which the evaluator's collector is made thrifty, in KiB.
	smallMemory = 2 << 20
)

// passed names the variables that Nix gets from this process: never the
// store's credentials.
func passed() []string {
	return []string{
		"PATH", "LANG", "LC_ALL", "LOCALE_ARCHIVE", "TZDIR", "NIX_CONFIG", "NIX_PATH", "NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "GIT_SSH_COMMAND",
	}
}

// nix runs a query of Nix.
func (m *Machine) nix(ctx context.Context, program string, args ...string) (run.Result, error) {
	return m.nixIn(ctx, "npcnix-nix-", "/", queryLimit, program, args...)
}

// nixIn runs a command of Nix in a directory, in a unit with that prefix.
func (m *Machine) nixIn(ctx context.Context, prefix, dir string, limit time.Duration, program string, args ...string) (run.Result, error) {
	if err := os.MkdirAll(m.opts.CacheDir, 0o700); err != nil {
		return run.Result{}, fmt.Errorf("make cache directory: %w", err)
	}
	env := run.Environ(passed(), "HOME="+m.opts.CacheDir, "XDG_CACHE_HOME="+m.opts.CacheDir)
	if daemon(ctx) {
		env = append(env, "NIX_REMOTE=daemon")
	}
	if SmallMemory() {
		env = append(env, "GC_INITIAL_HEAP_SIZE=1M", "GC_FREE_SPACE_DIVISOR=10")
	}
	return m.command(ctx, prefix, run.Command{Path: program, Args: args, Env: env, Dir: dir, Limit: limit})
}

// experimental comes before each subcommand of nix.
func experimental(args ...string) []string {
	return append([]string{"--extra-experimental-features", "nix-command flakes"}, args...)
}

// daemon reports whether the Nix daemon accepts connections.
func daemon(ctx context.Context) bool {
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "unix", daemonSocket)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}

// SmallMemory reports whether the machine has less than 2 GiB of memory.
func SmallMemory() bool {
	total, ok := memory()
	return ok && total < smallMemory
}

// memory returns the machine's memory in KiB.
func memory() (kib int64, ok bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }() // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(words[1], 10, 64)
			return kib, err == nil
		}
	}
	return 0, false
}

// NixVersion asks nix; its answer is "nix (Nix) 2.8.0".
func (m *Machine) NixVersion(ctx context.Context) (string, error) {
	result, err := m.nix(ctx, "nix", "--version")
	if err != nil {
		return "", err
	}
	if result.ExitCode != 0 {
		return "", fmt.Errorf("nix --version: exit code %d: %s", result.ExitCode, humanTail(string(result.Stderr)))
	}
	return readVersion(result.Stdout)
}

// readVersion reads what nix --version printed: its last word.
func readVersion(stdout []byte) (string, error) {
	words := strings.Fields(string(stdout))
	if len(words) == 0 {
		return "", errors.New("nix --version printed nothing")
	}
	version := words[len(words)-1]
	if len(version) > maxVersion || strings.ContainsFunc(version, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("nix --version printed %.80q", version)
	}
	return version, nil
}
