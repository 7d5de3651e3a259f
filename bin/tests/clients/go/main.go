// The conversation of bin/tests/it/foreign with the two clients of Eclipse Paho for Go:
// paho TRANSPORT VERSION PORT NAME [hold].
//
// TRANSPORT is tcp or ws; VERSION 3 (3.1) and 4 (3.1.1) are spoken by paho.mqtt.golang, 5 by paho.golang. Prints one
// line for each step; ends with 1 at the first that fails. With `hold` it is the client with a will and a kept session
// that is killed.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const within = 20 * time.Second

var transport, version, port, name string

type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
}

// A connection whose answers are waited for.
type client interface {
	present() bool
	subscribe(filter string) byte
	publish(topic string, payload []byte, qos byte, retain bool)
	incoming() <-chan message
	leave()
}

func connect(leaf string, kept, will bool) client {
	if version == "5" {
		return connectFive(name+"-"+leaf, kept, will)
	}
	return connectThree(name+"-"+leaf, kept, will)
}

func next(from client) message {
	select {
	case got := <-from.incoming():
		return got
	case <-time.After(within):
		fail("no message within", within)
		panic("not reached")
	}
}

func publish(through client, leaf, payload string, qos byte, retain bool) {
	through.publish(name+"/"+leaf, []byte(payload), qos, retain)
}

func fail(words ...any) {
	fmt.Fprintln(os.Stderr, words...)
	os.Exit(1)
}

func check(err error, what string) {
	if err != nil {
		fail(what+":", err)
	}
}

func hold() {
	connect("holder", true, true).subscribe(name + "/queued")
	fmt.Println("holding")
	time.Sleep(10 * time.Minute)
}

func retained(watcher, publisher client) {
	publish(publisher, "kept", "value", 1, true)
	if next(watcher).retain {
		fail("a message to who is subscribed is marked as retained")
	}
	late := connect("late", false, false)
	late.subscribe(name + "/kept")
	got := next(late)
	fmt.Println("retained", got.retain, string(got.payload))
	late.leave()
	publish(publisher, "kept", "", 1, true)
	next(watcher)
	late = connect("late", false, false)
	late.subscribe(name + "/kept")
	publish(publisher, "kept", "cleared", 1, false)
	fmt.Println(string(next(late).payload))
	next(watcher)
	late.leave()
}

func resumed(watcher, publisher client) {
	killed := exec.Command(os.Args[0], append(os.Args[1:], "hold")...)
	killed.Stderr = os.Stderr
	out, err := killed.StdoutPipe()
	check(err, "a pipe")
	check(killed.Start(), "the holder")
	line, err := bufio.NewReader(out).ReadString('\n')
	check(err, "the holder")
	fmt.Print(line)
	check(killed.Process.Kill(), "kill")
	_ = killed.Wait()
	will := next(watcher)
	fmt.Println("will", will.topic, will.qos, string(will.payload))
	for number := 0; number < 10; number++ {
		publish(publisher, "queued", fmt.Sprint(number), byte(1+number%2), false)
		next(watcher)
	}
	holder := connect("holder", true, false)
	if version != "3" {
		fmt.Println("present", holder.present())
	}
	queued := map[byte][]string{}
	for range make([]struct{}, 10) {
		got := next(holder)
		queued[got.qos] = append(queued[got.qos], string(got.payload))
	}
	for _, qos := range []byte{1, 2} {
		fmt.Println("queued", qos, strings.Join(queued[qos], " "))
	}
	holder.leave()
}

func converse() {
	watcher, publisher := connect("watcher", false, false), connect("publisher", false, false)
	fmt.Println("granted", watcher.subscribe(name+"/#"))
	for qos := byte(0); qos < 3; qos++ {
		publish(publisher, fmt.Sprint("q/", qos), fmt.Sprint("at ", qos), qos, false)
		got := next(watcher)
		fmt.Println("message", got.topic, got.qos, string(got.payload))
	}
	large := make([]byte, 300_000)
	for number := range large {
		large[number] = byte(number % 251)
	}
	publish(publisher, "large", string(large), 1, false)
	fmt.Println("large", bytes.Equal(next(watcher).payload, large))
	retained(watcher, publisher)
	resumed(watcher, publisher)
	watcher.leave()
	publisher.leave()
	fmt.Println("done")
}

func main() {
	if len(os.Args) < 5 {
		fail("paho TRANSPORT VERSION PORT NAME [hold]")
	}
	transport, version, port, name = os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	if len(os.Args) > 5 {
		hold()
	} else {
		converse()
	}
}
