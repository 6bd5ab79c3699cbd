package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/envelope"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// manifest is a valid document as its author wrote it.
type manifest struct {
	doc  codec.Document
	kind string
	name string
}

// String names the document as kubectl does: hostspec/web-1.
func (m manifest) String() string { return strings.ToLower(m.kind) + "/" + m.name }

// readManifests reads the documents of files, directories, or standard input
// (-), and returns all their problems together.
func (c *cli) readManifests(paths []string) (all []manifest, err error) {
	var problems []codec.Problem
	seen := map[string]bool{}
	for _, path := range paths {
		found, err := c.readManifest(path)
		if isInvalid(err) {
			problems = append(problems, codec.Problems(err)...)
		} else if err != nil {
			return nil, err
		}
		for _, m := range found {
			if seen[m.String()] {
				problems = append(problems, codec.Problem{Source: path, Line: m.doc.Line + 1, Path: "metadata.name", Message: m.String() + " is there twice"})
			}
			seen[m.String()] = true
		}
		all = append(all, found...)
	}
	if len(problems) > 0 {
		return nil, &codec.InvalidError{Problems: problems}
	}
	return all, nil
}

func (c *cli) readManifest(path string) ([]manifest, error) {
	if path == "-" {
		data, err := io.ReadAll(io.LimitReader(c.in, codec.MaxDocumentSize+1))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return readStream("-", data)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	if info.IsDir() {
		manifests, err := c.readDirectory(path)
		if err == nil && len(manifests) == 0 {
			err = fmt.Errorf("%w: there are no documents in %s", errRefused, path)
		}
		return manifests, err
	}
	data, err := readFile(path, info.Size())
	if err != nil {
		return nil, err
	}
	return readStream(path, data)
}

func readFile(path string, size int64) ([]byte, error) {
	if size > codec.MaxDocumentSize {
		return nil, fmt.Errorf("%s: %w", path, codec.ErrTooLarge)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	return data, nil
}

// readDirectory reads a flat directory of <name>.yaml files. What else lies
// there is left out with a note; a nested directory is an error, because a
// sync to the store would make keys of it that no host reads.
func (c *cli) readDirectory(dir string) ([]manifest, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	var all []manifest
	var problems []codec.Problem
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
			continue
		case e.IsDir():
			problems = append(problems, codec.Problem{Source: path, Message: "a directory of documents is flat; apply this one by itself, or move its files up"})
			continue
		case filepath.Ext(e.Name()) != ".yaml" || e.Name() == "kustomization.yaml":
			c.note("left out %s, which is not <name>.yaml", path)
			continue
		}
		found, err := c.readEntry(path, strings.TrimSuffix(e.Name(), ".yaml"))
		switch {
		case isInvalid(err):
			problems = append(problems, codec.Problems(err)...)
		case errors.Is(err, codec.ErrTooLarge):
			problems = append(problems, codec.Problem{Source: path, Message: codec.ErrTooLarge.Error()})
		case err != nil:
			return nil, err
		}
		all = append(all, found...)
	}
	if len(problems) > 0 {
		return nil, &codec.InvalidError{Problems: problems}
	}
	return all, nil
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[*codec.InvalidError](err)
	return ok
}

// readEntry reads a file of a directory: its documents must have its name.
func (c *cli) readEntry(path, name string) ([]manifest, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	data, err := readFile(path, info.Size())
	if err != nil {
		return nil, err
	}
	if foreign(path, data) {
		c.note("left out %s, which is not a document of npcnix", path)
		return nil, nil
	}
	found, err := readStream(path, data)
	if err != nil {
		return nil, err
	}
	var problems []codec.Problem
	for _, m := range found {
		if m.name != name {
			problems = append(problems, codec.Problem{
				Source: path, Line: m.doc.Line + 1, Path: "metadata.name",
				Message: fmt.Sprintf("is %s, but the file is named for %s; hosts look for <name>.yaml", m.name, name),
			})
		}
	}
	if len(problems) > 0 {
		return nil, &codec.InvalidError{Problems: problems}
	}
	return found, nil
}

// foreign reports whether every document of a stream says that it is another program's.
func foreign(source string, data []byte) bool {
	docs, err := codec.Split(source, data)
	if err != nil || len(docs) == 0 {
		return false
	}
	for _, doc := range docs {
		t, err := codec.TypeOf(doc)
		ours := t.Kind == v1alpha1.KindHostSpec || t.Kind == v1alpha1.KindHostOverride
		if err != nil || t.APIVersion == "" || ours || strings.HasPrefix(t.APIVersion, "npcnix") {
			return false
		}
	}
	return true
}

// readStream decodes every document of a stream strictly.
func readStream(source string, data []byte) ([]manifest, error) {
	docs, err := codec.Split(source, data)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		docs = []codec.Document{{Source: source}} // says that it is empty
	}
	var all []manifest
	var problems []codec.Problem
	seen := map[string]bool{}
	for _, doc := range docs {
		if signs(doc) && len(all) > 0 {
			if _, err := codec.DecodeStrict[envelope.DocumentSignature](doc, envelope.Kind); err != nil {
				problems = append(problems, codec.Problems(err)...)
			}
			last := &all[len(all)-1].doc // a signature belongs to what stands before it
			last.Raw = slices.Concat(last.Raw, []byte("---\n"), bytes.TrimSpace(doc.Raw), []byte("\n"))
			continue
		}
		m, err := decode(doc)
		if err != nil {
			problems = append(problems, codec.Problems(err)...)
			continue
		}
		if seen[m.String()] {
			problems = append(problems, codec.Problem{Source: source, Line: doc.Line + 1, Path: "metadata.name", Message: m.String() + " is there twice"})
		}
		seen[m.String()] = true
		m.doc.Raw = append(bytes.TrimSpace(m.doc.Raw), '\n')
		all = append(all, m)
	}
	if len(problems) > 0 {
		return nil, &codec.InvalidError{Problems: problems}
	}
	return all, nil
}

// signs reports whether the document is the signature of another.
func signs(doc codec.Document) bool {
	t, err := codec.TypeOf(doc)
	return err == nil && t.Kind == envelope.Kind
}

// decode decodes a document by its own kind.
func decode(doc codec.Document) (manifest, error) {
	t, err := codec.TypeOf(doc)
	if err != nil {
		return manifest{}, err
	}
	var object meta.ObjectMeta
	switch t.Kind {
	case v1alpha1.KindHostSpec:
		object, err = metaOf(doc, t.Kind, func(o *v1alpha1.HostSpec) meta.ObjectMeta { return o.Metadata })
	case v1alpha1.KindHostOverride:
		object, err = metaOf(doc, t.Kind, func(o *v1alpha1.HostOverride) meta.ObjectMeta { return o.Metadata })
	case v1alpha1.KindRemote:
		object, err = metaOf(doc, t.Kind, func(o *v1alpha1.Remote) meta.ObjectMeta { return o.Metadata })
	case v1alpha1.KindHostStatus:
		object, err = metaOf(doc, t.Kind, func(o *v1alpha1.HostStatus) meta.ObjectMeta { return o.Metadata })
	default:
		return manifest{}, &codec.InvalidError{Problems: []codec.Problem{{
			Source: doc.Source, Line: doc.Line + 1, Path: "kind",
			Message: fmt.Sprintf("found %q, expected HostSpec or HostOverride", t.Kind),
		}}}
	}
	return manifest{doc: doc, kind: t.Kind, name: object.Name}, err
}

func metaOf[T any](doc codec.Document, kind string, of func(*T) meta.ObjectMeta) (meta.ObjectMeta, error) {
	obj, err := codec.DecodeStrict[T](doc, kind)
	if err != nil {
		return meta.ObjectMeta{}, err
	}
	return of(obj), nil
}
