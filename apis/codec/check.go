package codec

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// checker compares a decoded tree with a Go type and collects what does not fit.
type checker struct {
	strict   bool
	problems []Problem
}

func (c *checker) add(path, message string) {
	c.problems = append(c.problems, Problem{Path: path, Message: message})
}

// check follows t and v together; path is the field path of v. It returns v
// without what does not fit, so that the rest can be decoded and judged too.
func (c *checker) check(t reflect.Type, v any, path string) any {
	if v == nil {
		return nil // null is absent
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return c.scalar(t, v, path)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return c.check(t.Elem(), v, path)
	case reflect.Struct:
		return c.object(t, v, path)
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			c.add(path, "expected a mapping, found "+describe(v))
			return nil
		}
		for _, k := range sortedKeys(m) {
			m[k] = c.check(t.Elem(), m[k], path+"["+k+"]")
		}
		return m
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			c.add(path, "expected a list, found "+describe(v))
			return nil
		}
		for i, e := range list {
			list[i] = c.check(t.Elem(), e, path+"["+strconv.Itoa(i)+"]")
		}
		return list
	default:
		return c.scalar(t, v, path)
	}
}

func (c *checker) object(t reflect.Type, v any, path string) any {
	m, ok := v.(map[string]any)
	if !ok {
		c.add(path, "expected a mapping, found "+describe(v))
		return nil
	}
	fields := fieldsOf(t)
	for _, k := range sortedKeys(m) {
		f, known := fields[k]
		switch {
		case known:
			m[k] = c.check(f, m[k], join(path, k))
		case c.strict:
			c.add(join(path, k), "unknown field"+suggestion(k, fields))
		default:
			delete(m, k) // encoding/json would match it whatever its case
		}
	}
	return m
}

// scalar lets encoding/json judge one value.
func (c *checker) scalar(t reflect.Type, v any, path string) any {
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, reflect.New(t).Interface())
	}
	if err == nil {
		return v
	}
	if _, wrongType := err.(*json.UnmarshalTypeError); wrongType { //nolint:errorlint // json returns it bare
		c.add(path, fmt.Sprintf("expected %s, found %s", expectation(t), describe(v)))
	} else {
		c.add(path, err.Error())
	}
	return nil
}

// told reports whether a problem of the path, of one above or below it, is
// known already.
func (c *checker) told(path string) bool {
	above := func(a, b string) bool {
		rest, ok := strings.CutPrefix(b, a)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	return slices.ContainsFunc(c.problems, func(p Problem) bool { return above(p.Path, path) || above(path, p.Path) })
}

func expectation(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string (quote it)"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "an integer"
	default:
		return "a " + t.Kind().String()
	}
}

// describe says what a decoded value is, in YAML's words.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		return strconv.Quote(v)
	default:
		return fmt.Sprint(v)
	}
}

// fieldsOf returns the types of a struct's fields by their JSON names.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case f.Anonymous && name == "":
			maps.Copy(fields, fieldsOf(f.Type))
		default:
			fields[name] = f.Type
		}
	}
	return fields
}

// suggestion returns ` (did you mean "x"?)` for the nearest field, if it is near.
func suggestion(unknown string, fields map[string]reflect.Type) string {
	best, bestDistance := "", max(2, len(unknown)/3)+1
	for _, name := range sortedKeys(fields) {
		if d := distance(strings.ToLower(unknown), strings.ToLower(name)); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	if best == "" {
		return ", expected one of " + strings.Join(sortedKeys(fields), ", ")
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the Levenshtein distance of two strings in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
