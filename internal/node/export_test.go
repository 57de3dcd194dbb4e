package node

import "github.com/holdfast-sites/holdfast/internal/author"

// Author is the flows that this node runs.
func (n *Node) Author() *author.Author { return n.author }
