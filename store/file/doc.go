// Package file is a store in a directory, safe between processes: each object
// is a file that is replaced atomically, and preconditions are decided under a
// lock that every writer takes. Readers take no lock and need no write
// permission. Temporary and lock files stand under .npcnix/.
//
// Only cmd names it; whoever needs a store asks for a store.Store.
package file
