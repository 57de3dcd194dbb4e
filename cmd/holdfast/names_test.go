package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestAKeyMovesToAnotherMachine(t *testing.T) {
	u := newUser(t)
	made := u.json("key", "new", "blog")
	hasExactly(t, "key new", made, keyFields...)
	if made["alias"] != "blog" || !strings.HasPrefix(made["name"].(string), "k51") {
		t.Errorf("%v", made)
	}
	u.fails(2, "exists", "key", "new", "blog")
	list := u.json("key", "list")
	hasExactly(t, "key list", list, "keys")
	hasExactly(t, "a key", list["keys"].([]any)[0], keyFields...)

	file := u.path("blog.key")
	u.json("key", "export", "blog", "-o", file)
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	pem := mustRead(t, file)
	if o := u.must("key", "export", "blog", "-o", "-"); o.out != string(pem) {
		t.Error("-o - gives something else")
	}
	u.wantsBytes(t, "key", "export", "blog", "-o", "-")
	u.fails(2, "choose another file", "key", "export", "blog", "-o", file)
	if !bytes.Equal(mustRead(t, file), pem) {
		t.Error("the refused export changed the file")
	}
	u.fails(3, "no such key", "key", "export", "nope", "-o", u.path("nope.key"))
	if _, err := os.Stat(u.path("nope.key")); err == nil {
		t.Error("a failed export leaves a file")
	}

	other := newUser(t)
	if got := other.json("key", "import", "my-blog", file); got["name"] != made["name"] || got["alias"] != "my-blog" {
		t.Errorf("%v", got)
	}
	third := newUser(t)
	third.in = bytes.NewReader(pem)
	if got := third.json("key", "import", "blog", "-"); got["name"] != made["name"] {
		t.Errorf("from standard input: %v", got)
	}
	third.in = nil
	third.fails(6, "", "key", "import", "junk", third.file("junk", "not a key"))
	third.fails(3, "absent", "key", "import", "junk", third.path("absent"))
	third.fails(2, "exists", "key", "import", "blog", file)
}
