package archive

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// node is an entry of the tree that a list of paths describes.
type node struct {
	name     string
	children map[string]*node
}

func newTree(paths []string) (*node, error) {
	root := &node{}
	for _, p := range paths {
		if !fs.ValidPath(p) || p == "." {
			return nil, fmt.Errorf("pack: %q is no relative path", p)
		}
		at := root
		for name := range strings.SplitSeq(p, "/") {
			at = at.child(name)
		}
	}
	return root, nil
}

func (n *node) child(name string) *node {
	c, ok := n.children[name]
	if !ok {
		c = &node{name: name}
		if n.children == nil {
			n.children = map[string]*node{}
		}
		n.children[name] = c
	}
	return c
}

// sorted returns the children in the order of their names' bytes.
func (n *node) sorted() []*node {
	list := make([]*node, 0, len(n.children))
	for _, c := range n.children {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return list
}
