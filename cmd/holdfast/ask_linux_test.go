package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pseudoTerminal is a terminal and the end at which its user sits.
func pseudoTerminal(t *testing.T) (user, terminal *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { user.Close() })
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return user, terminal
}

func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// untilSilent waits until the terminal has stopped to show what is typed.
func untilSilent(t *testing.T, f *os.File) {
	t.Helper()
	for echoes(t, f) {
		if t.Context().Err() != nil {
			t.Fatal("it never does")
		}
	}
}

func TestAPassphraseIsNotShownWhileItIsTyped(t *testing.T) {
	user, terminal := pseudoTerminal(t)
	person := personAt(terminal, terminal)
	if person == nil {
		t.Fatal("nobody is there")
	}
	var out strings.Builder
	person = terminalAsker{terminal, &out}
	got := make(chan string)
	go func() {
		s, err := person.Secret(t.Context(), "Passphrase: ")
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	untilSilent(t, terminal)
	if _, err := io.WriteString(user, " open sesame \n"); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != " open sesame " {
		t.Errorf("typed was %q", s)
	}
	if s := out.String(); s != "Passphrase: \n" {
		t.Errorf("shown was %q", s)
	}
	if !echoes(t, terminal) {
		t.Error("the terminal stays silent")
	}
	go io.WriteString(user, "yes \nno\n")
	for _, want := range []string{"yes", "no"} {
		if s, err := person.Line(t.Context(), "? "); err != nil || s != want {
			t.Errorf("a line is %q, %v, want %q", s, err, want)
		}
	}
}

func TestAnInterruptedQuestionLeavesATerminalThatShowsWhatIsTyped(t *testing.T) {
	_, terminal := pseudoTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := terminalAsker{terminal, io.Discard}.Secret(ctx, "")
		done <- err
	}()
	untilSilent(t, terminal)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	if !echoes(t, terminal) {
		t.Error("the terminal stays silent")
	}
}

func TestInAPipeThereIsNobodyToAsk(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	_, terminal := pseudoTerminal(t)
	if personAt(r, terminal) != nil || personAt(terminal, w) != nil {
		t.Error("somebody is there")
	}
}
