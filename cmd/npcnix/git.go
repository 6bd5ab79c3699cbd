package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos/run"
)

const (
	gitLimit = time.Minute
	// maxGitOutput bounds a list of files, in bytes: 200,000 long names.
	maxGitOutput = 256 << 20
)

// git asks git about the work tree that a directory belongs to.
type git struct{ dir string }

// run returns what a git command prints. ok is false if it failed.
func (g git) run(ctx context.Context, args ...string) (out string, ok bool, err error) {
	result, err := run.Run(ctx, run.Command{
		Path: "git", Args: append([]string{"-C", g.dir}, args...), Limit: gitLimit, MaxStdout: maxGitOutput,
		Env: run.Environ([]string{"PATH", "HOME", "XDG_CONFIG_HOME", "GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"}, "LC_ALL=C"),
	})
	if err != nil {
		return "", false, err
	}
	if result.ExitCode != 0 {
		return strings.TrimSpace(string(result.Stderr)), false, nil
	}
	return string(result.Stdout), true, nil
}

// inside reports whether the directory is in a git work tree.
func (g git) inside(ctx context.Context) (bool, error) {
	out, ok, err := g.run(ctx, "rev-parse", "--is-inside-work-tree")
	switch {
	case errors.Is(err, run.ErrNotFound) && !underGit(g.dir):
		return false, nil // nothing to ask git about
	case err != nil:
		return false, fmt.Errorf("ask git which files it tracks: %w", err)
	case ok:
		return strings.TrimSpace(out) == "true", nil
	case strings.Contains(out, "not a git repository"):
		return false, nil
	default:
		return false, fmt.Errorf("ask git which files it tracks: %s", out)
	}
}

// underGit reports whether the directory, or one above it, looks like a work tree.
func underGit(dir string) bool {
	dir, err := filepath.Abs(dir)
	for err == nil {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
		dir = filepath.Dir(dir)
	}
	return true // git will say what is wrong
}

// tracked lists what git tracks below the directory. Submodules are refused:
// Nix takes them along only where the flake says so.
func (g git) tracked(ctx context.Context) ([]string, error) {
	out, ok, err := g.run(ctx, "ls-files", "-z", "--cached", "--stage")
	if err != nil || !ok {
		return nil, fmt.Errorf("list tracked files: %s %w", out, err)
	}
	var paths []string
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		meta, path, found := strings.Cut(entry, "\t") // <mode> <object> <stage>\t<path>
		if !found {
			continue // nothing is tracked
		}
		if strings.HasPrefix(meta, "160000 ") {
			return nil, fmt.Errorf("%w: %s is a git submodule; npcnix packs none, vendor it or make it a flake input", errRefused, path)
		}
		if len(paths) == 0 || paths[len(paths)-1] != path { // a conflict has several stages
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// untracked lists what git neither tracks nor ignores below the directory.
func (g git) untracked(ctx context.Context) ([]string, error) {
	out, ok, err := g.run(ctx, "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil || !ok {
		return nil, fmt.Errorf("list untracked files: %s %w", out, err)
	}
	return strings.FieldsFunc(out, func(r rune) bool { return r == 0 }), nil
}

// source describes the commit that is checked out. What git does not know stays empty.
func (g git) source(ctx context.Context) (*v1alpha1.Source, error) {
	s := &v1alpha1.Source{}
	out, ok, err := g.run(ctx, "log", "-1", "--no-show-signature", "--format=%H %ct")
	if err != nil {
		return nil, err
	}
	if ok {
		revision, seconds, _ := strings.Cut(strings.TrimSpace(out), " ")
		s.Revision = revision
		if s.LastModified, err = strconv.ParseInt(seconds, 10, 64); err != nil {
			return nil, fmt.Errorf("read commit time of %s: %w", revision, err)
		}
	}
	out, ok, err = g.run(ctx, "status", "--porcelain", "--untracked-files=no", "--", ".")
	if err != nil || !ok {
		return nil, fmt.Errorf("compare with the commit: %s %w", out, err)
	}
	s.Dirty = out != "" || s.Revision == ""
	if out, ok, err = g.run(ctx, "remote", "get-url", "origin"); err == nil && ok {
		s.Repository = withoutUserinfo(strings.TrimSpace(out))
	}
	return s, err
}

// user returns the address under which git commits here.
func (g git) user(ctx context.Context) string {
	out, ok, err := g.run(ctx, "config", "user.email")
	if err != nil || !ok {
		return ""
	}
	return strings.TrimSpace(out)
}

// withoutUserinfo removes user and password from a URL. git@host:path is no
// URL, and its user no secret.
func withoutUserinfo(repository string) string {
	if !strings.Contains(repository, "://") {
		return repository
	}
	u, err := url.Parse(repository)
	if err != nil {
		return "" // what cannot be understood may hold a password
	}
	u.User = nil
	return u.String()
}
