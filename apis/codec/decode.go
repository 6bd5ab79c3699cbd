package codec

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// Validator is a document that can judge its own values.
type Validator interface{ Validate() field.ErrorList }

// DecodeStrict decodes the document into a value, which must be of the
// document's kind, and validates it. The error is an *InvalidError with
// everything that is wrong.
func DecodeStrict[T any](doc Document, kind string) (*T, error) { return decode[T](doc, kind, true) }

// DecodeLenient is DecodeStrict for documents that a newer program may have
// written: unknown fields are ignored.
func DecodeLenient[T any](doc Document, kind string) (*T, error) { return decode[T](doc, kind, false) }

// TypeOf returns the type that the document names, without judging the rest.
func TypeOf(doc Document) (meta.TypeMeta, error) {
	tree, err := parse(doc)
	if err != nil {
		return meta.TypeMeta{}, err
	}
	apiVersion, _ := tree["apiVersion"].(string)
	kind, _ := tree["kind"].(string)
	return meta.TypeMeta{APIVersion: apiVersion, Kind: kind}, nil
}

func decode[T any](doc Document, kind string, strict bool) (*T, error) {
	tree, err := parse(doc)
	if err != nil {
		return nil, err
	}
	c := checker{strict: strict}
	c.typeMeta(tree, kind)
	obj := new(T)
	if len(c.problems) == 0 { // of another kind every field would be wrong
		c.check(reflect.TypeFor[T](), tree, "")
		c.fill(obj, tree)
		c.validate(obj)
	}
	if !strict && len(c.problems) == 0 {
		return obj, nil // nothing is to be located
	}
	at := locate(doc.Raw)
	if strict {
		c.problems = append(c.problems, at.duplicates...)
	}
	if len(c.problems) == 0 {
		return obj, nil
	}
	return nil, &InvalidError{Problems: placed(c.problems, doc, at)}
}

// validate adds what the object itself finds wrong, except where something is
// known to be wrong already.
func (c *checker) validate(obj any) {
	v, ok := obj.(Validator)
	if !ok {
		return
	}
	var found []Problem
	for _, e := range v.Validate() {
		if !c.told(e.Field) {
			found = append(found, Problem{Path: e.Field, Message: e.ErrorBody()})
		}
	}
	c.problems = append(c.problems, found...)
}

// placed gives the problems their lines and puts them in that order.
func placed(problems []Problem, doc Document, at positions) []Problem {
	for i := range problems {
		p := &problems[i]
		p.Source = doc.Source
		if p.Line == 0 {
			p.Line = at.line(p.Path)
		}
		p.Line += doc.Line
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return problems
}

// parse reads the document as sigs.k8s.io/yaml does: YAML 1.1 into JSON.
func parse(doc Document) (map[string]any, error) {
	whole := func(message string) error {
		return &InvalidError{Problems: []Problem{{Source: doc.Source, Message: message}}}
	}
	if len(doc.Raw) > MaxDocumentSize {
		return nil, whole(ErrTooLarge.Error())
	}
	if blank(doc.Raw) {
		return nil, whole("the file is empty, expected a document with apiVersion, kind, metadata and spec")
	}
	data, err := yaml.YAMLToJSON(doc.Raw)
	if err != nil {
		return nil, whole(shiftLine(err.Error(), doc.Line))
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var root any
	if err := decoder.Decode(&root); err != nil {
		return nil, whole(err.Error())
	}
	tree, ok := root.(map[string]any)
	if !ok {
		return nil, whole("expected a document with apiVersion, kind, metadata and spec, found " + describe(root))
	}
	return tree, nil
}

// typeMeta checks that the document is of the wanted kind, if one is wanted.
func (c *checker) typeMeta(tree map[string]any, kind string) {
	if v, _ := tree["apiVersion"].(string); v != v1alpha1.APIVersion {
		c.add("apiVersion", fmt.Sprintf("found %s, expected %s", describe(tree["apiVersion"]), v1alpha1.APIVersion))
	}
	if k, _ := tree["kind"].(string); k != kind {
		c.add("kind", fmt.Sprintf("found %s, expected %s", describe(tree["kind"]), kind))
	}
}

// fill decodes the checked tree. What can still fail are values that only
// their own UnmarshalJSON can judge; check has judged those.
func (c *checker) fill(obj any, tree map[string]any) {
	data, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(data, obj)
	}
	if err != nil {
		c.add("", strings.TrimPrefix(err.Error(), "json: "))
	}
}
