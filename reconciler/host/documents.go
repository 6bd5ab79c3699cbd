package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/window"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
)

// known is a document as it was last seen in the store. While its ETag stays,
// nothing of it is read or decoded again.
type known struct {
	key, etag, digest string
	present           bool
	modified          time.Time
}

// documents are the three documents that a host follows.
type documents struct {
	spec, override, remote known

	// accepted is the HostSpec in force, with its digests; nil if there is none.
	accepted *acceptedSpec
	// adopted is the HostOverride in force; nil if there is none.
	adopted *adoptedOverride
	// specProblem says why the newest HostSpec or HostOverride is not in force.
	specProblem, overrideProblem *plan.Problem

	// publication is the Remote in force, the last good one where remoteProblem is set.
	publication   *v1alpha1.Remote
	remoteDigest  string
	remoteETag    string
	remoteProblem *plan.Problem
}

type acceptedSpec struct {
	etag, digest string
	// policyDigest is that of rebuildPolicy and healthChecks.
	policyDigest string
	labels       map[string]string
	spec         v1alpha1.HostSpecSpec // with defaults
	calendar     *window.Calendar
}

// look asks for a document that may have changed. changed is false while it
// stays what k says. A document that is not there is no error.
func (k *known) look(ctx context.Context, s store.Store, key string) (data []byte, changed bool, err error) {
	if k.key != key {
		*k = known{key: key}
	}
	raw, err := document.Read(ctx, s, key, k.etag)
	switch {
	case errors.Is(err, store.ErrNotModified):
		return nil, false, nil
	case errors.Is(err, store.ErrNotFound):
		*k = known{key: key}
		return nil, true, nil
	case errors.Is(err, store.ErrTooLarge): // every byte of it is refused
		*k = known{key: key, etag: raw.ETag, present: true, modified: raw.LastModified}
		return make([]byte, codec.MaxDocumentSize+1), true, nil
	case err != nil:
		return nil, false, err
	}
	*k = known{key: key, etag: raw.ETag, present: true, modified: raw.LastModified}
	return raw.Data, true, nil
}

// observeSpec looks at the HostSpec and adopts it if it is fully understood.
func (r *Reconciler) observeSpec(ctx context.Context, _ *pass) error {
	d := &r.documents
	data, changed, err := d.spec.look(ctx, r.opts.Store, store.HostSpecKey(r.opts.Host))
	if errors.Is(err, store.ErrAccessDenied) {
		d.accepted, d.spec = nil, known{}
		d.specProblem = specUnreadable()
		r.opts.Log.Info("Could not read the HostSpec", "host", r.opts.Host, "error", err.Error()) // each request has another name
		return nil
	}
	if err != nil || !changed {
		return err
	}
	if !d.spec.present {
		r.forget(r.savedSpec(), &d.spec)
		d.accepted = nil
		d.specProblem = specMissing(d.spec.key)
		return nil
	}
	accepted, problem := acceptSpec(d.spec, data, r.opts.Host)
	d.specProblem = problem
	switch {
	case accepted != nil:
		if d.accepted != nil && d.accepted.digest == accepted.digest {
			accepted.etag = d.accepted.etag // uploaded again, and no change
		}
		d.accepted = accepted
		r.keep(r.savedSpec(), &d.spec, data)
	case problem.Reason == v1alpha1.ReasonNotSupported:
		d.accepted = nil // a promise that cannot be kept: nothing is started, and nothing older comes back
		r.forget(r.savedSpec(), &d.spec)
	}
	return nil
}

// only returns the one document of a file; more says that others follow.
func only(k known, data []byte) (doc codec.Document, more bool, err error) {
	docs, err := codec.Split(k.key, data)
	if err != nil {
		return doc, false, err
	}
	if len(docs) == 0 {
		return codec.Document{Source: k.key, Raw: data}, false, nil
	}
	return docs[0], len(docs) > 1, nil
}

// secondDocument is what is refused in a file that has one.
const secondDocument = "a second YAML document in the file"

// acceptSpec decodes a HostSpec as strictly as its writers do.
func acceptSpec(k known, data []byte, host string) (*acceptedSpec, *plan.Problem) {
	invalid := func(err error) (*acceptedSpec, *plan.Problem) { return nil, notAdopted(v1alpha1.KindHostSpec, err) }
	doc, more, err := only(k, data)
	if err != nil {
		return invalid(err)
	}
	spec, err := codec.DecodeStrict[v1alpha1.HostSpec](doc, v1alpha1.KindHostSpec)
	if err == nil && spec.Metadata.Name != host {
		err = fmt.Errorf("%s: metadata.name is %s, expected %s", k.key, spec.Metadata.Name, host)
	}
	if err != nil {
		return invalid(err)
	}
	unsupported := notSupported(spec.Spec)
	if more {
		unsupported = append(unsupported, secondDocument)
	}
	if len(unsupported) > 0 {
		return nil, unsupportedFields(unsupported)
	}
	digest, err := codec.SpecDigest(doc)
	if err != nil {
		return invalid(err)
	}
	policy, err := codec.FieldDigest(doc, "spec", "rebuildPolicy")
	if err != nil {
		return invalid(err)
	}
	checks, err := codec.FieldDigest(doc, "spec", "healthChecks")
	if err != nil {
		return invalid(err)
	}
	return &acceptedSpec{
		etag: k.etag, digest: digest, policyDigest: codec.Digest([]byte(policy + checks)),
		labels: spec.Metadata.Labels, spec: spec.Spec.WithDefaults(host), calendar: window.New(host, spec.Spec.MaintenanceWindow),
	}, nil
}

// observeRemote looks at the Remote that the spec in force names.
func (r *Reconciler) observeRemote(ctx context.Context, _ *pass) error {
	d := &r.documents
	if d.accepted == nil {
		return nil
	}
	name := d.accepted.spec.Remote
	if d.publication != nil && d.publication.Metadata.Name != name {
		d.publication = nil
	}
	data, changed, err := d.remote.look(ctx, r.opts.Store, store.RemoteKey(name))
	if errors.Is(err, store.ErrAccessDenied) {
		d.remote = known{}
		d.remoteProblem = remoteUnreadable(name)
		r.opts.Log.Info("Could not read the remote", "host", r.opts.Host, "remote", name, "error", err.Error())
		return nil
	}
	if err != nil || !changed {
		return err
	}
	if !d.remote.present {
		d.remoteProblem = remoteMissing(name)
		return nil
	}
	d.acceptRemote(name, data)
	if d.remoteProblem == nil {
		r.keep(r.savedRemote(), &d.remote, data)
	}
	return nil
}

// acceptRemote decodes a Remote, leniently: machines write it.
func (d *documents) acceptRemote(name string, data []byte) {
	doc := codec.Document{Source: d.remote.key, Raw: data}
	remote, err := codec.DecodeLenient[v1alpha1.Remote](doc, v1alpha1.KindRemote)
	if err == nil && remote.Metadata.Name != name {
		err = fmt.Errorf("%s: metadata.name is %s, expected %s", d.remote.key, remote.Metadata.Name, name)
	}
	if err == nil {
		d.remote.digest, err = codec.SpecDigest(doc)
	}
	if err != nil {
		d.remoteProblem = remoteInvalid(err)
		return
	}
	if d.remoteDigest != d.remote.digest || d.publication == nil { // else uploaded again, and no change
		d.remoteDigest, d.remoteETag = d.remote.digest, d.remote.etag
	}
	d.publication, d.remoteProblem = remote, nil
}

// newest is when any of the documents was last written.
func (d *documents) newest() time.Time {
	newest := d.spec.modified
	for _, t := range []time.Time{d.override.modified, d.remote.modified} {
		if t.After(newest) {
			newest = t
		}
	}
	return newest
}

// content names what spec and remote say together: a forced publication of
// the same is a change too.
func (d *documents) content() string {
	return fmt.Sprintf("%s %s %d", d.accepted.digest, d.remoteDigest, d.publication.Metadata.Generation)
}

// contentOr is content, or other while spec or remote is not known.
func (d *documents) contentOr(other string) string {
	if d.accepted == nil || d.publication == nil {
		return other
	}
	return d.content()
}
