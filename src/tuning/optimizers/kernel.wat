;; One update of a parameter by Adam, and rows of a gradient that is a sum of outer products; float32, four lanes at a
;; time, all pointers in bytes. Compiled into kernel.generated.ts by `npm run kernel`.
(module
  (import "host" "memory" (memory 1 65536))

  ;; p, m, v: `count` elements each, updated in place from g. Constants as in adam.ts.
  (func (export "update")
    (param $p i32) (param $m i32) (param $v i32) (param $g i32) (param $count i32)
    (param $decay f32) (param $keep f32) (param $fresh1 f32) (param $beta2 f32) (param $fresh2 f32)
    (param $step f32) (param $correction f32) (param $epsilon f32)
    (local $end i32) (local $gradient v128) (local $first v128) (local $second v128) (local $value v128)
    (local $g1 f32) (local $m1 f32) (local $v1 f32) (local $p1 f32)
    (local.set $end (i32.add (local.get $p) (i32.shl (i32.and (local.get $count) (i32.const -4)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
        (local.set $value (v128.load (local.get $p)))
        (local.set $gradient
          (f32x4.add (v128.load (local.get $g)) (f32x4.mul (f32x4.splat (local.get $decay)) (local.get $value))))
        (local.set $first (v128.load (local.get $m)))
        (local.set $first
          (f32x4.add (local.get $first)
            (f32x4.mul (f32x4.splat (local.get $fresh1)) (f32x4.sub (local.get $gradient) (local.get $first)))))
        (local.set $second
          (f32x4.add (f32x4.mul (f32x4.splat (local.get $beta2)) (v128.load (local.get $v)))
            (f32x4.mul (f32x4.mul (f32x4.splat (local.get $fresh2)) (local.get $gradient)) (local.get $gradient))))
        (v128.store (local.get $m) (local.get $first))
        (v128.store (local.get $v) (local.get $second))
        (v128.store (local.get $p)
          (f32x4.sub (f32x4.mul (f32x4.splat (local.get $keep)) (local.get $value))
            (f32x4.div (f32x4.mul (f32x4.splat (local.get $step)) (local.get $first))
              (f32x4.add (f32x4.mul (f32x4.sqrt (local.get $second)) (f32x4.splat (local.get $correction)))
                (f32x4.splat (local.get $epsilon))))))
        (local.set $p (i32.add (local.get $p) (i32.const 16)))
        (local.set $m (i32.add (local.get $m) (i32.const 16)))
        (local.set $v (i32.add (local.get $v) (i32.const 16)))
        (local.set $g (i32.add (local.get $g) (i32.const 16)))
        (br $next)))
    ;; Up to three elements that fill no four lanes.
    (local.set $end (i32.add (local.get $p) (i32.shl (i32.and (local.get $count) (i32.const 3)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
        (local.set $p1 (f32.load (local.get $p)))
        (local.set $g1 (f32.add (f32.load (local.get $g)) (f32.mul (local.get $decay) (local.get $p1))))
        (local.set $m1 (f32.load (local.get $m)))
        (local.set $m1
          (f32.add (local.get $m1) (f32.mul (local.get $fresh1) (f32.sub (local.get $g1) (local.get $m1)))))
        (local.set $v1
          (f32.add (f32.mul (local.get $beta2) (f32.load (local.get $v)))
            (f32.mul (f32.mul (local.get $fresh2) (local.get $g1)) (local.get $g1))))
        (f32.store (local.get $m) (local.get $m1))
        (f32.store (local.get $v) (local.get $v1))
        (f32.store (local.get $p)
          (f32.sub (f32.mul (local.get $keep) (local.get $p1))
            (f32.div (f32.mul (local.get $step) (local.get $m1))
              (f32.add (f32.mul (f32.sqrt (local.get $v1)) (local.get $correction)) (local.get $epsilon)))))
        (local.set $p (i32.add (local.get $p) (i32.const 4)))
        (local.set $m (i32.add (local.get $m) (i32.const 4)))
        (local.set $v (i32.add (local.get $v) (i32.const 4)))
        (local.set $g (i32.add (local.get $g) (i32.const 4)))
        (br $next))))

  ;; Row `row` of leftᵀ·right into out [columns]: left [terms, rows], right [terms, columns].
  (func (export "outer_row")
    (param $out i32) (param $left i32) (param $right i32)
    (param $terms i32) (param $rows i32) (param $columns i32) (param $row i32)
    (local $a i32) (local $b i32) (local $t i32) (local $end i32) (local $factor v128) (local $sum f32)
    (local $s0 v128) (local $s1 v128) (local $s2 v128) (local $s3 v128)
    (local.set $left (i32.add (local.get $left) (i32.shl (local.get $row) (i32.const 2))))
    (local.set $rows (i32.shl (local.get $rows) (i32.const 2)))
    (local.set $end (i32.add (local.get $out) (i32.shl (i32.and (local.get $columns) (i32.const -16)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $out) (local.get $end)))
        (local.set $a (local.get $left))
        (local.set $b (local.get $right))
        (local.set $t (local.get $terms))
        (local.set $s0 (v128.const i32x4 0 0 0 0))
        (local.set $s1 (local.get $s0))
        (local.set $s2 (local.get $s0))
        (local.set $s3 (local.get $s0))
        (loop $term
          (local.set $factor (v128.load32_splat (local.get $a)))
          (local.set $s0 (f32x4.add (local.get $s0) (f32x4.mul (local.get $factor) (v128.load (local.get $b)))))
          (local.set $s1
            (f32x4.add (local.get $s1) (f32x4.mul (local.get $factor) (v128.load offset=16 (local.get $b)))))
          (local.set $s2
            (f32x4.add (local.get $s2) (f32x4.mul (local.get $factor) (v128.load offset=32 (local.get $b)))))
          (local.set $s3
            (f32x4.add (local.get $s3) (f32x4.mul (local.get $factor) (v128.load offset=48 (local.get $b)))))
          (local.set $a (i32.add (local.get $a) (local.get $rows)))
          (local.set $b (i32.add (local.get $b) (i32.shl (local.get $columns) (i32.const 2))))
          (local.set $t (i32.sub (local.get $t) (i32.const 1)))
          (br_if $term (local.get $t)))
        (v128.store (local.get $out) (local.get $s0))
        (v128.store offset=16 (local.get $out) (local.get $s1))
        (v128.store offset=32 (local.get $out) (local.get $s2))
        (v128.store offset=48 (local.get $out) (local.get $s3))
        (local.set $out (i32.add (local.get $out) (i32.const 64)))
        (local.set $right (i32.add (local.get $right) (i32.const 64)))
        (br $next)))
    (local.set $end (i32.add (local.get $out) (i32.shl (i32.and (local.get $columns) (i32.const 15)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $out) (local.get $end)))
        (local.set $a (local.get $left))
        (local.set $b (local.get $right))
        (local.set $t (local.get $terms))
        (local.set $sum (f32.const 0))
        (loop $term
          (local.set $sum (f32.add (local.get $sum) (f32.mul (f32.load (local.get $a)) (f32.load (local.get $b)))))
          (local.set $a (i32.add (local.get $a) (local.get $rows)))
          (local.set $b (i32.add (local.get $b) (i32.shl (local.get $columns) (i32.const 2))))
          (local.set $t (i32.sub (local.get $t) (i32.const 1)))
          (br_if $term (local.get $t)))
        (f32.store (local.get $out) (local.get $sum))
        (local.set $out (i32.add (local.get $out) (i32.const 4)))
        (local.set $right (i32.add (local.get $right) (i32.const 4)))
        (br $next)))))
