// Package archive packs a list of files into a deterministic tar.zst and
// unpacks such archives, its own and other tools', without trusting them.
//
// The same files give the same bytes: entries are sorted, have no times and no
// owners, and only two modes. Every archive has two names: the digest of its
// bytes, and the NAR hash of its tree, which is what `nix hash path` prints
// and what does not change with the compressor.
//
// Package host and the operators' verbs use it.
package archive
