package local

import (
	"regexp"
	"slices"
	"strings"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

// failure is what Nix's messages were found to say.
type failure struct {
	kind    nixos.BuildFailure
	message string
	// fixedOutput is set where kind is InputUnavailable only if this derivation
	// has a fixed output.
	fixedOutput string
}

// Nix exits with 1 whatever happened; only the text tells. The rules are for
// the head of the decisive message, never for all of the output: source
// excerpts and builders' logs quote anything. The texts were read from Nix
// 2.8, 2.18, 2.26 and 2.34.
const (
	// a block begins with error: at the line's begin; what belongs to it is indented.
	blockBegin = `^error:( |$)`
	traced     = `^ {7}error:( |$)`
	summary    = `^\d+ dependenc(y|ies) of derivation .* failed to build|^build of .* failed$|^some dependencies of `
	summaryNew = `(?m)^\s*Reason: \d+ dependenc(y|ies) failed`

	builderHead = `^builder for '.*' failed|^Cannot build '.*\.drv'|^hash mismatch in fixed-output derivation|timed out after \d+ seconds|is required to build '`
	noSpace     = `No space left|lack of free disk space|(disk|database or disk) is full|quota exceeded`
	killed      = `failed due to signal (9|15) `
	network     = `(?m)^ {7}> .*(unable to download '|curl: \((5|6|7|16|18|22|28|35|47|52|55|56|92)\)|[Cc]ould ?n[o']t (resolve|connect)|Failed to connect to|` +
		`Temporary failure in name resolution|Name or service not known|Connection (refused|timed out|reset)|Network is unreachable|cannot download .* from any mirror|fatal: unable to access ')`
	substitutes = `^some substitutes for the outputs|no substituter that can build it`
	broken      = `^cannot connect to socket|^cannot open connection to remote store|^failed to start SSH|daemon disconnected|SQLite|Read-only file system|` +
		`Permission denied|Operation not permitted|[Tt]oo many open files|^out of memory$|^remounting |schema['"] is corrupt|build users group|build-users-group|` +
		`nable to start any build|experimental Nix feature|unrecognised flag|cannot create symlink|interrupted by the user|was interrupted`
	download  = `^unable to download '|^Failed to open archive \(Source threw exception: error: unable to download '|(?i:^failed to open archive)`
	git       = `^program ['"]?git['"]? |^Failed to fetch git|^Git repository .* does not exist|^Cannot find Git revision|^resolving Git reference`
	gitGone   = `not our ref|couldn't find remote ref`
	gitSays   = `(?m)^(fatal|ssh): .*$`
	attribute = `^flake '.*' does not provide attribute `
	// evaluated is what shows that the source itself was judged: where it
	// stands, or what was being evaluated.
	evaluated = `(?m)^\s+at .*:\d+:\d+:?$|^\s+… while (evaluating|calling)`
	// fault is what the machine or the network say, whatever Nix was doing.
	fault = `[Cc]annot allocate memory|bad_alloc|unable to fork|Resource temporarily unavailable|Connection (reset|refused|timed out)|Input/output error|` +
		`Stale file handle|[Rr]esource busy|Broken pipe|Interrupted system call|Text file busy|No route to host|Network is (unreachable|down)|` +
		`does not exist in binary cache|[Tt]runcated|unexpected end-of-file|failed to (read compressed|extract|decompress)|HTTP error \d+|^cannot build on '`
)

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

// classify finds the decisive message in Nix's output and judges it.
func classify(stderr string) failure {
	stderr = plain(stderr)
	block := decisive(stderr)
	if block == "" {
		return failure{kind: nixos.NixUnavailable, message: humanTail(stderr)}
	}
	head := headline(block)
	trace := block
	block = withoutTrace(block)
	f := failure{message: humanTail(block)}
	switch {
	case matches(builderHead, head):
		f.kind, f.fixedOutput = builderFailure(block)
	case matches(noSpace, head):
		f.kind = nixos.DiskFull
	case matches(substitutes, head), matches(download, head):
		f.kind = nixos.InputUnavailable
	case matches(broken, head):
		f.kind = nixos.NixUnavailable
	case matches(git, head):
		f.kind = gitFailure(stderr, head)
		if says := regexp.MustCompile(gitSays).FindAllString(stderr, -1); says != nil {
			f.message = humanTail(says[len(says)-1] + "\n" + block)
		}
	case matches(attribute, head):
		f.kind = nixos.AttributeMissing
	case matches(fault, head) && !matches(evaluated, trace):
		f.kind = nixos.NixUnavailable
	default: // old Nix says no more of a throw than its text
		f.kind = nixos.EvaluationFailure
	}
	return f
}

func builderFailure(block string) (kind nixos.BuildFailure, fixedOutput string) {
	switch {
	case matches(noSpace, block):
		return nixos.DiskFull, ""
	case matches(killed, block):
		return nixos.NixUnavailable, ""
	case matches(network, block):
		if drv := regexp.MustCompile(`/[^'" !]*/[0-9a-z]{32}-[^'" !]*\.drv`).FindString(block); drv != "" {
			return nixos.InputUnavailable, drv
		}
	}
	return nixos.BuilderFailure, ""
}

// gitFailure tells a revision that does not exist from a server that does not answer.
func gitFailure(stderr, head string) nixos.BuildFailure {
	unreachable := matches(gitSays, stderr) || !matches(`^Cannot find|^resolving`, head)
	if unreachable && !matches(gitGone, stderr) {
		return nixos.InputUnavailable
	}
	return nixos.EvaluationFailure
}

// plain removes colours and control characters.
func plain(s string) string {
	s = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`).ReplaceAllString(s, "")
	return regexp.MustCompile(`[^\P{C}\n\t]`).ReplaceAllString(s, "")
}

// decisive returns the last error block that is more than a summary of others.
func decisive(stderr string) string {
	blocks := errorBlocks(stderr)
	for _, block := range slices.Backward(blocks) {
		if !matches(summary, headline(block)) && !matches(summaryNew, block) {
			return block
		}
	}
	if len(blocks) > 0 {
		return blocks[len(blocks)-1]
	}
	return ""
}

func errorBlocks(stderr string) []string {
	var blocks []string
	inside := false
	for line := range strings.Lines(stderr) {
		switch {
		case matches(blockBegin, strings.TrimSuffix(line, "\n")):
			blocks = append(blocks, line)
			inside = true
		case strings.HasPrefix(line, "  ") || strings.TrimSpace(line) == "":
			if inside {
				blocks[len(blocks)-1] += line
			}
		default:
			inside = false
		}
	}
	return blocks
}

// headline returns the message's first line. Where newer Nix prints a trace
// first, the message stands after it, indented.
func headline(block string) string {
	lines := strings.Split(block, "\n")
	if head := strings.TrimSpace(strings.TrimPrefix(lines[0], "error:")); head != "" {
		return head
	}
	head := ""
	for _, line := range lines[1:] {
		if matches(traced, line) {
			return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "error:"))
		}
		if head == "" {
			head = strings.TrimSpace(line)
		}
	}
	return head
}

// withoutTrace returns the block from where its message begins.
func withoutTrace(block string) string {
	if at := regexp.MustCompile(`(?m)` + traced).FindStringIndex(block); at != nil && strings.TrimSpace(block[len("error:"):at[0]]) != "" {
		return strings.TrimLeft(block[at[0]:], " ")
	}
	return block
}

// humanTail shortens what Nix printed to what a person needs: no traces'
// source lines, no advice, at most 1 KiB, and of that the beginning and the end.
func humanTail(s string) string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || matches(`^\d*\|( |$)|^\(use '--show-trace'|^For full logs, run|^nix log |^\^$`, line) {
			continue
		}
		lines = append(lines, line)
	}
	text := strings.TrimSpace(strings.Join(lines, "\n"))
	const half = meta.MaxMessage * 2 / 5
	if len(text) > 2*half {
		return meta.Cut(text, half) + "\n" + meta.CutFront(text, half)
	}
	return text
}
