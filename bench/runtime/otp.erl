%% The rows of the table on Erlang/OTP. main/0 reads lines "function count" and answers each with
%% nanoseconds an operation, or with name=figure pairs.
-module(otp).
-export([main/0, init/1, handle_call/3, handle_cast/2, start_child/1, start_child/2]).

main() ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    loop().

loop() ->
    case io:get_line("") of
        Line when is_list(Line) ->
            [F, N] = string:lexemes(string:trim(Line), " "),
            erlang:garbage_collect(),
            io:format("~s~n", [work(F, list_to_integer(N))]),
            loop();
        _ -> halt(0)
    end.

now_ns() -> erlang:monotonic_time(nanosecond).
each(From, N) -> float_to_list((now_ns() - From) / N, [{decimals, 1}]).

%% A child reports its start to Who and ends as it is told to.
start_child(Who) -> {ok, proc_lib:spawn_link(fun() -> report(Who), child() end)}.
start_child(Who, done) -> {ok, proc_lib:spawn_link(fun() -> Who end)}.
report(none) -> ok;
report(Who) -> Who ! {started, self()}.
child() -> receive die -> exit(crash) end.

init({sup, Strategy, Children}) ->
    {ok, {#{strategy => Strategy, intensity => 100000000, period => 1}, Children}};
init(server) -> {ok, 0}.
handle_call(N, _, S) -> {reply, N + 1, S}.
handle_cast(N, S) -> {noreply, S + N}.

spec(Id, Args) -> spec(Id, Args, permanent).
spec(Id, Args, Restart) -> #{id => Id, start => {?MODULE, start_child, Args}, restart => Restart}.

stop(Sup) ->
    exit(Sup, shutdown),
    receive {'EXIT', Sup, _} -> ok end.

started() -> receive {started, P} -> P end.

work("restart", N) ->
    {ok, Sup} = supervisor:start_link(?MODULE, {sup, one_for_one, [spec(a, [self()])]}),
    P = started(),
    Times = restarts(P, N, []),
    stop(Sup),
    float_to_list(float(lists:nth(N div 2 + 1, lists:sort(Times))), [{decimals, 1}]);

work("group", N) ->
    Own = [spec(I, [none]) || I <- lists:seq(1, 999)],
    {ok, Sup} = supervisor:start_link(?MODULE, {sup, one_for_all, Own ++ [spec(1000, [self()])]}),
    P = started(),
    From = now_ns(),
    groups(P, N),
    R = each(From, N),
    stop(Sup),
    R;

work("temporary", N) ->
    {ok, Sup} = supervisor:start_link(?MODULE, {sup, simple_one_for_one, [spec(a, [ok], temporary)]}),
    From = now_ns(),
    temporaries(Sup, N),
    R = each(From, N),
    stop(Sup),
    R;

work("many", N) ->
    Before = erlang:memory(total),
    Specs = [spec(I, [none]) || I <- lists:seq(1, N)],
    From = now_ns(),
    {ok, Sup} = supervisor:start_link(?MODULE, {sup, one_for_one, Specs}),
    Start = each(From, N),
    erlang:garbage_collect(Sup),
    Heap = float_to_list((erlang:memory(total) - Before) / N, [{decimals, 1}]),
    Then = now_ns(),
    stop(Sup),
    ["start=", Start, ",heap=", Heap, ",ordered stop=", each(Then, N)];

work("call1", N) -> calls(1, N);
work("call64", N) -> calls(64, N);
work("cast1", N) -> casts(1, N);
work("cast8", N) -> casts(8, N);

work("fanout", N) ->
    Me = self(),
    Subs = [spawn_link(fun() -> reader(Me) end) || _ <- lists:seq(1, 100)],
    Broker = spawn_link(fun() -> broker(Subs) end),
    From = now_ns(),
    windows(N div 1024, fun(I) -> Broker ! {event, I =:= 1024} end, 100),
    R = each(From, (N div 1024) * 1024 * 100),
    drop([Broker | Subs]),
    R;

work("filters", N) ->
    Me = self(),
    Key = fun(I) -> iolist_to_binary(["key-", integer_to_list(I)]) end,
    Subs = [{Key(I), spawn_link(fun() -> teller(Me) end)} || I <- lists:seq(0, 999)],
    Keys = list_to_tuple([K || {K, _} <- Subs]),
    Broker = spawn_link(fun() -> matcher(Subs) end),
    From = now_ns(),
    windows(N div 1024, fun(I) -> Broker ! {event, element(I * 7 rem 1000 + 1, Keys)} end, 1024),
    R = each(From, (N div 1024) * 1024),
    drop([Broker | [P || {_, P} <- Subs]]),
    R.

restarts(_, 0, Times) -> Times;
restarts(P, N, Times) ->
    From = now_ns(),
    P ! die,
    Next = started(),
    restarts(Next, N - 1, [now_ns() - From | Times]).

groups(_, 0) -> ok;
groups(P, N) -> P ! die, groups(started(), N - 1).

temporaries(_, 0) -> ok;
temporaries(Sup, N) ->
    {ok, P} = supervisor:start_child(Sup, [done]),
    M = monitor(process, P),
    receive {'DOWN', M, _, _, _} -> ok end,
    temporaries(Sup, N - 1).

in_parallel(Procs, F) ->
    Me = self(),
    Ps = [spawn_link(fun() -> F(), Me ! {done, self()} end) || _ <- lists:seq(1, Procs)],
    [receive {done, P} -> receive {'EXIT', P, _} -> ok end end || P <- Ps].

repeat(0, _) -> ok;
repeat(N, F) -> F(), repeat(N - 1, F).

calls(Callers, N) ->
    {ok, S} = gen_server:start(?MODULE, server, []),
    From = now_ns(),
    in_parallel(Callers, fun() -> repeat(N div Callers, fun() -> gen_server:call(S, 1, 5000) end) end),
    R = each(From, N),
    exit(S, kill),
    R.

casts(Senders, N) ->
    {ok, S} = gen_server:start(?MODULE, server, []),
    From = now_ns(),
    in_parallel(Senders, fun() -> repeat(N div Senders, fun() -> gen_server:cast(S, 1) end) end),
    gen_server:call(S, 1, infinity),
    R = each(From, N),
    exit(S, kill),
    R.

windows(0, _, _) -> ok;
windows(N, Publish, Answers) ->
    [Publish(I) || I <- lists:seq(1, 1024)],
    [receive read -> ok end || _ <- lists:seq(1, Answers)],
    windows(N - 1, Publish, Answers).

broker(Subs) -> receive {event, _} = E -> [S ! E || S <- Subs], broker(Subs) end.
matcher(Subs) -> receive {event, K} = E -> [S ! E || {Own, S} <- Subs, Own =:= K], matcher(Subs) end.
reader(To) -> receive {event, true} -> To ! read, reader(To); {event, false} -> reader(To) end.
teller(To) -> receive {event, _} -> To ! read, teller(To) end.
drop(Ps) -> [begin unlink(P), exit(P, kill) end || P <- Ps].
