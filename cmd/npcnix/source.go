package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// ignoreFile names, in gitignore's syntax, what is not packed from a directory
// that is no git work tree.
const ignoreFile = ".npcnixignore"

// source is a flake's directory and what of it is packed.
type source struct {
	root  *os.Root
	paths []string
	// described is what is known of the commit; without git only the lock file.
	described *v1alpha1.Source
	// by says who publishes.
	by string
	// untracked are the files that git does not track and does not ignore.
	untracked []string
}

// readSource finds out what a flake's directory consists of: as Nix does, what
// git tracks with the work tree's contents; elsewhere almost everything.
func (c *cli) readSource(ctx context.Context, dir string, include []string) (_ *source, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("read flake: %w", err)
	}
	s := &source{root: root, described: &v1alpha1.Source{}, by: c.getenv("USER")}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	repository := git{dir: dir}
	inside, err := repository.inside(ctx)
	switch {
	case err != nil:
		return nil, err
	case inside:
		err = s.fromGit(ctx, repository)
	default:
		err = s.fromDirectory(c)
	}
	if err == nil {
		err = s.include(include)
	}
	if err == nil {
		s.tell(c)
	}
	if err == nil {
		err = s.checkFlake(dir, inside)
	}
	return s, err
}

func (s *source) fromGit(ctx context.Context, g git) error {
	tracked, err := g.tracked(ctx)
	if err != nil {
		return err
	}
	for _, p := range tracked {
		info, err := s.root.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || (err == nil && info.IsDir()) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return fmt.Errorf("read flake: %w", err)
		}
		s.paths = append(s.paths, p)
	}
	if s.described, err = g.source(ctx); err != nil {
		return err
	}
	if s.untracked, err = g.untracked(ctx); err != nil {
		return err
	}
	if user := g.user(ctx); user != "" {
		s.by = user
	}
	return nil
}

func (s *source) fromDirectory(c *cli) error {
	ignored, err := s.ignored()
	if err != nil {
		return err
	}
	return s.walk(".", func(p string, d fs.DirEntry) (skip bool, err error) {
		switch {
		case d.Name() == ".git":
			return true, nil
		case ignored.Match(strings.Split(p, "/"), d.IsDir()):
			return true, nil
		case d.Type()&fs.ModeSymlink != 0 && strings.HasPrefix(d.Name(), "result"):
			target, err := s.root.Readlink(p)
			if err != nil {
				return false, fmt.Errorf("read flake: %w", err)
			}
			if strings.HasPrefix(target, "/nix/store/") {
				c.note("left out %s, a link into the Nix store", p)
				return true, nil
			}
		}
		return false, nil
	})
}

// ignored reads the ignore file, if there is one.
func (s *source) ignored() (gitignore.Matcher, error) { //nolint:ireturn // the library's own
	f, err := s.root.Open(ignoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return gitignore.NewMatcher(nil), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	defer func() { _ = f.Close() }() // only read
	var patterns []gitignore.Pattern
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := lines.Text(); strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, gitignore.ParsePattern(line, nil))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	return gitignore.NewMatcher(patterns), nil
}

// walk adds what is below a path, directories too, except what skip says.
func (s *source) walk(from string, skip func(p string, d fs.DirEntry) (bool, error)) error {
	err := fs.WalkDir(s.root.FS(), from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == "." {
			return nil
		}
		left, err := skip(p, d)
		switch {
		case err != nil:
			return err
		case left && d.IsDir():
			return fs.SkipDir
		case left:
			return nil
		}
		s.paths = append(s.paths, p)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read flake: %w", err)
	}
	return nil
}

// tell says what the publisher may not have meant.
func (s *source) tell(c *cli) {
	s.untracked = slices.DeleteFunc(s.untracked, func(p string) bool { return slices.Contains(s.paths, p) })
	if n := len(s.untracked); n > 0 {
		c.note("git does not track %d files, which are left out: %s", n, strings.Join(s.untracked[:min(n, 3)], ", "))
	}
	if s.described.Dirty && s.described.Revision != "" {
		c.note("the tree differs from commit %s", v1alpha1.ShortRevision(s.described.Revision))
	}
}

// include adds untracked files and directories that the operator named.
func (s *source) include(names []string) error {
	for _, name := range names {
		p := path.Clean(filepath.ToSlash(name))
		if !fs.ValidPath(p) || p == "." {
			return fmt.Errorf("%w: --include %s: must be a path below the flake's directory", errUsage, name)
		}
		err := s.walk(p, func(_ string, d fs.DirEntry) (bool, error) { return d.Name() == ".git", nil })
		if err != nil {
			return fmt.Errorf("--include %s: %w", name, err)
		}
		s.described.Dirty = true // no commit has it
	}
	slices.Sort(s.paths)
	s.paths = slices.Compact(s.paths)
	return nil
}

// checkFlake refuses a tree that no host could build: without flake.nix, or
// with inputs and no lock file, which a host must not write.
func (s *source) checkFlake(dir string, inGit bool) error {
	hint := ""
	if _, err := s.root.Lstat("flake.nix"); err == nil && inGit {
		hint = "; Nix and npcnix see only what git tracks: git add it"
	}
	if !slices.Contains(s.paths, "flake.nix") {
		return fmt.Errorf("%w: %s has no flake.nix%s", errRefused, dir, hint)
	}
	if slices.Contains(s.paths, "flake.lock") {
		lock, err := s.root.ReadFile("flake.lock")
		if err != nil {
			return fmt.Errorf("read flake: %w", err)
		}
		s.described.FlakeLockDigest = codec.Digest(lock)
		return nil
	}
	text, err := s.root.ReadFile("flake.nix")
	if err != nil {
		return fmt.Errorf("read flake: %w", err)
	}
	if hasInputs(string(text)) {
		return fmt.Errorf("%w: %s has inputs and no flake.lock: run nix flake lock%s", errRefused, dir, hint)
	}
	return nil
}

// hasInputs reports whether a flake's text names inputs: an attribute inputs
// that is not empty, or another argument of outputs than self. It reads Nix as
// far as people write flakes; what it does not see, Nix will say on the host.
func hasInputs(flake string) bool {
	text := regexp.MustCompile(`(?s)/\*.*?\*/|#[^\n]*`).ReplaceAllString(flake, "")
	// Below outputs, inputs is somebody else's word, unless it begins a line of the top.
	top := regexp.MustCompile(`(?s)\boutputs\s*=.*`).ReplaceAllString(text, "") + strings.Join(regexp.MustCompile(`(?m)^ {0,2}inputs\b.*\n.*`).FindAllString(text, -1), "\n")
	if regexp.MustCompile(`\binputs\s*(\.\s*["A-Za-z_]|=\s*\{\s*["A-Za-z_])`).MatchString(top) {
		return true
	}
	arguments := regexp.MustCompile(`(?s)\boutputs\s*=\s*(?:[A-Za-z_]\w*\s*@\s*)?\{([^}]*)\}`).FindStringSubmatch(text)
	if arguments == nil {
		return false
	}
	for name := range strings.SplitSeq(arguments[1], ",") {
		if name = strings.TrimSpace(name); name != "" && name != "self" && name != "..." {
			return true
		}
	}
	return false
}
