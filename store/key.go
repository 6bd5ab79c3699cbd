package store

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of keys: S3 allows 1,024 bytes, file systems 255 bytes between two slashes.
const (
	maxKey     = 900
	maxSegment = 255
)

// Reserved is the first segment of keys that drivers keep for themselves.
const Reserved = ".npcnix"

// ValidateKey returns ErrInvalidKey unless every driver can store the key:
// segments between single slashes, none of them "." or "..", no control
// characters, not below Reserved.
func ValidateKey(key string) error {
	bad := func(why string) error { return fmt.Errorf("%w %q: %s", ErrInvalidKey, key, why) }
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) {
		return bad("must be UTF-8 of 1 to 900 bytes")
	}
	if strings.ContainsFunc(key, unicode.IsControl) {
		return bad("has a control character")
	}
	for i, s := range strings.Split(key, "/") {
		switch {
		case s == "" || s == "." || s == "..":
			return bad("has an empty or relative segment")
		case len(s) > maxSegment:
			return bad("has a segment longer than 255 bytes")
		case i == 0 && s == Reserved:
			return bad(Reserved + "/ is the store's own")
		}
	}
	return nil
}

// Prefixes of the store's layout. Each is written by one kind of party alone.
const (
	HostSpecs = "hosts/"
	Overrides = "overrides/"
	Remotes   = "remotes/"
	Statuses  = "statuses/"
	history   = "history/"
	archives  = "archives/"
	logs      = "logs/"
	extension = ".yaml"
)

// HostSpecKey is the key of a host's declaration.
func HostSpecKey(host string) string { return HostSpecs + host + extension }

// OverrideKey is the key of a host's override.
func OverrideKey(host string) string { return Overrides + host + extension }

// StatusKey is the key of a host's status.
func StatusKey(host string) string { return Statuses + host + extension }

// RemoteKey is the key of a remote's pointer.
func RemoteKey(remote string) string { return Remotes + remote + extension }

// HistoryPrefix is the prefix of a remote's superseded pointers.
func HistoryPrefix(remote string) string { return history + remote + "/" }

// HistoryKey is the key of a superseded pointer; keys sort as generations do.
func HistoryKey(remote string, generation int64) string {
	return HistoryPrefix(remote) + fmt.Sprintf("%010d", generation) + extension
}

// ArchiveKey is the key of the archive with the digest sha256:<hex>.
func ArchiveKey(digest string) string {
	return archives + strings.TrimPrefix(digest, "sha256:") + ".tar.zst"
}

// LogKey is the key of a slot in a host's ring of logs.
func LogKey(host string, slot int) string {
	return logs + host + "/" + strconv.Itoa(slot) + ".log.zst"
}

// Name returns the object's name that a key below prefix stands for: of
// hosts/web.yaml below HostSpecs, web. ok is false for keys that are no
// document there, such as a kustomization.yaml's neighbour in a folder.
func Name(prefix, key string) (name string, ok bool) {
	rest, below := strings.CutPrefix(key, prefix)
	name, isDocument := strings.CutSuffix(rest, extension)
	return name, below && isDocument && name != "" && !strings.Contains(name, "/")
}

// Generation is Name for the keys below HistoryPrefix.
func Generation(remote, key string) (generation int64, ok bool) {
	name, ok := Name(HistoryPrefix(remote), key)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(name, 10, 64)
	return n, err == nil && HistoryKey(remote, n) == key
}
