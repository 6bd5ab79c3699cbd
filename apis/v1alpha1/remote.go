package v1alpha1

import (
	"strings"

	"github.com/npcnix/npcnix/apis/meta"
)

// Remote points at the archive that a remote's newest generation consists of.
// Publishing replaces it; its ETag is the remote's ETag.
type Remote struct {
	meta.TypeMeta

	Metadata meta.ObjectMeta `json:"metadata"`
	Spec     RemoteSpec      `json:"spec"`
}

// RemoteSpec is one publication.
type RemoteSpec struct {
	PublishedAt meta.Time `json:"publishedAt"`
	// PublishedBy says who published, as far as is known.
	PublishedBy  string        `json:"publishedBy,omitempty"`
	Source       *Source       `json:"source,omitempty"`
	Archive      Archive       `json:"archive"`
	Closures     *Closures     `json:"closures,omitempty"`
	PromotedFrom *PromotedFrom `json:"promotedFrom,omitempty"`
}

// Source says where a published tree came from.
type Source struct {
	// Repository is the URL of the git remote, without userinfo.
	Repository string `json:"repository,omitempty"`
	// Revision is the commit that was checked out.
	Revision string `json:"revision,omitempty"`
	// LastModified is that commit's time in Unix seconds; it becomes the
	// modification time of every unpacked file.
	LastModified int64 `json:"lastModified,omitempty"`
	// Dirty says that the tree differed from the commit.
	Dirty bool `json:"dirty"`
	// FlakeLockDigest is sha256:<hex> of flake.lock.
	FlakeLockDigest string `json:"flakeLockDigest,omitempty"`
}

// Archive names a packed flake by its content.
type Archive struct {
	// Digest is sha256:<hex> of the archive's bytes.
	Digest string `json:"digest"`
	// Size is the archive's length in bytes.
	Size int64 `json:"size"`
	// NarHash is what `nix hash path` prints for the unpacked tree.
	NarHash string `json:"narHash,omitempty"`
}

// Closures names the list of prebuilt systems that belong to an archive.
type Closures struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// PromotedFrom names the publication that was published again.
type PromotedFrom struct {
	Remote     string `json:"remote"`
	Generation int64  `json:"generation"`
}

// dirtyMark is appended to a revision whose tree differed from the commit.
const dirtyMark = "-dirty"

// FullRevision writes the commit, and -dirty where the tree differed from it.
func FullRevision(revision string, dirty bool) string {
	if dirty && revision != "" {
		return revision + dirtyMark
	}
	return revision
}

// ShortRevision writes the first 12 digits of a revision that FullRevision
// wrote, and keeps its mark.
func ShortRevision(full string) string {
	commit, dirty := strings.CutSuffix(full, dirtyMark)
	return FullRevision(commit[:min(len(commit), 12)], dirty)
}

// FullRevision writes the source's commit, see the function; a nil source has none.
func (s *Source) FullRevision() string {
	if s == nil {
		return ""
	}
	return FullRevision(s.Revision, s.Dirty)
}
