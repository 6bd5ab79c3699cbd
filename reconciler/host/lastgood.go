package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/reconciler/statefile"
	"github.com/npcnix/npcnix/store"
)

// savedVersion is the format of saved documents that this agent writes.
const savedVersion = 1

// saved is a document as it was adopted, for a start without the store, and for
// the day when a newer one is not understood.
type saved struct {
	FormatVersion int       `json:"formatVersion"`
	Key           string    `json:"key"`
	ETag          string    `json:"etag"`
	Modified      time.Time `json:"modified"`
	Data          string    `json:"data"`
	// Digest is that of Data: what was altered on disk is not believed.
	Digest string `json:"digest"`
}

func (s *saved) known() known {
	return known{key: s.Key, etag: s.ETag, present: true, modified: s.Modified}
}

func (r *Reconciler) documentsDir() string { return filepath.Join(r.opts.StateDir, "documents") }
func (r *Reconciler) savedSpec() string    { return filepath.Join(r.documentsDir(), "hostspec.json") }

func (r *Reconciler) savedOverride() string {
	return filepath.Join(r.documentsDir(), "hostoverride.json")
}
func (r *Reconciler) savedRemote() string { return filepath.Join(r.documentsDir(), "remote.json") }

// keep saves a document that was adopted. Where that fails the document counts
// all the same, and is looked at and saved anew the next time.
func (r *Reconciler) keep(path string, k *known, data []byte) {
	err := statefile.WriteJSON(path, saved{
		FormatVersion: savedVersion, Key: k.key, ETag: k.etag, Modified: k.modified, Data: string(data), Digest: codec.Digest(data),
	})
	if err != nil {
		k.etag = ""
		r.opts.Log.Info("Could not keep a document on disk", "host", r.opts.Host, "key", k.key, "error", err.Error())
	}
}

// forget removes what keep saved: it is not in force any more. Where that fails
// the document is looked at, and forgotten, anew the next time.
func (r *Reconciler) forget(path string, k *known) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.etag = ""
		r.opts.Log.Info("Could not remove a document from disk", "host", r.opts.Host, "path", path, "error", err.Error())
	}
}

// load returns what was saved at path, or nil. What cannot be used is set
// aside: the store has the truth.
func (r *Reconciler) load(path string) (*saved, error) {
	data, err := statefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // none was adopted
	}
	s := &saved{}
	switch {
	case err != nil:
	case json.Unmarshal(data, s) != nil:
		err = statefile.Unusable("not the JSON of a saved document")
	case s.FormatVersion != savedVersion:
		err = statefile.Unusable("of format %d, this agent knows %d", s.FormatVersion, savedVersion)
	case s.Digest != codec.Digest([]byte(s.Data)):
		err = statefile.Unusable("its data was altered")
	}
	if errors.Is(err, statefile.ErrUnusable) {
		return nil, r.setAside(path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read last good document: %w", err)
	}
	return s, nil
}

// loadDocuments puts the last good documents in force, until the store has
// been looked at. Their ETags make that first look as cheap as any other.
func (r *Reconciler) loadDocuments() error {
	if info, err := os.Lstat(r.documentsDir()); err == nil && !info.IsDir() {
		return r.setAside(r.documentsDir(), statefile.Unusable("not a directory"))
	}
	if err := r.loadOverride(); err != nil {
		return err
	}
	s, err := r.load(r.savedSpec())
	if s == nil || err != nil {
		return err
	}
	if want := store.HostSpecKey(r.opts.Host); s.Key != want {
		return r.setAside(r.savedSpec(), statefile.Unusable("it is %s, expected %s", s.Key, want))
	}
	d := &r.documents
	accepted, problem := acceptSpec(s.known(), []byte(s.Data), r.opts.Host)
	if accepted == nil { // another agent understood it
		r.opts.Log.Info("Did not take up the last good HostSpec", "host", r.opts.Host, "reason", problem.Message)
		return nil
	}
	d.accepted, d.spec = accepted, s.known()
	remote, err := r.load(r.savedRemote())
	if remote == nil || err != nil || remote.Key != store.RemoteKey(accepted.spec.Remote) {
		return err // another remote's: the agent was killed when the spec changed
	}
	d.remote = remote.known()
	d.acceptRemote(accepted.spec.Remote, []byte(remote.Data))
	if d.remoteProblem != nil {
		d.remote, d.remoteProblem = known{}, nil
	}
	return nil
}

// loadOverride puts the last good HostOverride in force.
func (r *Reconciler) loadOverride() error {
	s, err := r.load(r.savedOverride())
	if s == nil || err != nil {
		return err
	}
	if want := store.OverrideKey(r.opts.Host); s.Key != want {
		return r.setAside(r.savedOverride(), statefile.Unusable("it is %s, expected %s", s.Key, want))
	}
	adopted, problem := acceptOverride(s.known(), []byte(s.Data), r.opts.Host)
	if adopted == nil { // another agent understood it
		r.opts.Log.Info("Did not take up the last good HostOverride", "host", r.opts.Host, "reason", problem.Message)
		return nil
	}
	r.documents.adopted, r.documents.override = adopted, s.known()
	return nil
}
