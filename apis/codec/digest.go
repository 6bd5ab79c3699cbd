package codec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
)

// SpecDigest returns sha256:<hex> of the document's spec as written: as JSON
// with sorted keys, no defaults filled in, unknown fields included. It does
// not depend on the reader's version, on comments, or on the order of fields.
func SpecDigest(doc Document) (string, error) { return FieldDigest(doc, "spec") }

// FieldDigest is SpecDigest for the value at a path of field names. An absent
// field has the digest of null.
func FieldDigest(doc Document, path ...string) (string, error) {
	tree, err := parse(doc)
	if err != nil {
		return "", err
	}
	var v any = tree
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	data, err := canonical(v)
	if err != nil {
		return "", err
	}
	return Digest(data), nil
}

// Equal reports whether two documents say the same, whatever their comments,
// spacing and order of fields.
func Equal(a, b Document) (bool, error) {
	left, err := parse(a)
	if err != nil {
		return false, err
	}
	right, err := parse(b)
	if err != nil {
		return false, err
	}
	x, err := canonical(left)
	if err != nil {
		return false, err
	}
	y, err := canonical(right)
	return bytes.Equal(x, y), err
}

// Digest returns sha256:<hex> of the bytes.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
