"""Odd values, each written as the expression that makes it, so that a report can be pasted into a session.

`ARGUMENTS` are tried for every argument of every public class and function. `IMAGES`, `LABELS` and the others are tried
in calls; they are written in terms of the batch in `names()`.
"""

import collections
import decimal
import fractions
import importlib.util
import types

import keras
import numpy as np
from harness import BACKEND

import keras_reg

COUNT, HEIGHT, WIDTH, CHANNELS = 4, 6, 5, 3
OTHERS = [name for name in ("torch", "tensorflow", "jax") if name != BACKEND]
FOREIGN = next(filter(importlib.util.find_spec, OTHERS), None)

ARGUMENTS = [
    "None",
    "...",
    "NotImplemented",
    "True",
    "False",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "0.0",
    "-0.0",
    "0.5",
    "1.0",
    "1.5",
    "-0.1",
    "1e308",
    "-1e308",
    "5e-324",
    "1e-40",
    "float('nan')",
    "float('inf')",
    "-float('inf')",
    "10**400",
    "-(10**400)",
    "2**31",
    "2**32",
    "2**63",
    "2**64",
    "2**200",
    "1+2j",
    "1+0j",
    "''",
    "'some'",
    "'0.5'",
    "'None'",
    "b'some'",
    "bytearray(b'a')",
    "memoryview(b'a')",
    "[]",
    "()",
    "[1]",
    "(0.5,)",
    "(0.5,0.5)",
    "(0.1,0.2)",
    "(0.2,0.1)",
    "[1,2]",
    "(1,2,3)",
    "[1,None]",
    "['a']",
    "[[1.0]]",
    "[float('nan'),1.0]",
    "[10**400,10**400]",
    "[True,True]",
    "{}",
    "{'a':1}",
    "{'class_name':'Strength','config':{'value':0.5}}",
    "{'class_name':'Strength'}",
    "set()",
    "{0.5}",
    "frozenset({1})",
    "object()",
    "int",
    "len",
    "(lambda:0.5)",
    "(lambda*a,**k:0.5)",
    "range(2)",
    "(i*0.5for(i)in(0,1))",
    "iter([1])",
    "np.float16(0.5)",
    "np.float32(0.5)",
    "np.float32(0.1)",
    "np.float64(0.5)",
    "np.longdouble(0.5)",
    "np.float32('nan')",
    "np.float16('inf')",
    "np.int8(1)",
    "np.int16(1)",
    "np.int32(1)",
    "np.int64(1)",
    "np.uint8(1)",
    "np.uint16(1)",
    "np.uint32(1)",
    "np.uint64(1)",
    "np.uint64(2**63)",
    "np.complex64(1)",
    "np.True_",
    "np.False_",
    "np.str_('some')",
    "np.bytes_(b'a')",
    "np.datetime64('2020')",
    "np.timedelta64(1)",
    "np.array(0.5)",
    "np.array(1)",
    "np.array(True)",
    "np.array([0.5])",
    "np.array([0.25,0.5])",
    "np.array([1,2])",
    "np.array([1,2],'uint64')",
    "np.array([[1.0]])",
    "np.array([])",
    "np.array('a')",
    "np.array(None)",
    "np.array([0.5,1.0],'>f8')",
    "np.ma.masked",
    "np.float32",
    "ops.convert_to_tensor(0.5)",
    "ops.convert_to_tensor(1)",
    "ops.convert_to_tensor([0.25,0.5])",
    "keras.KerasTensor((2,))",
    "Fraction(1,2)",
    "Fraction(2,1)",
    "Fraction(10**400)",
    "Decimal('0.5')",
    "Decimal('NaN')",
    "keras_reg.Strength(0.5)",
    "keras_reg.Strength(np.float32(0.5))",
    "keras.layers.Rescaling(2.0)",
    "keras_reg",
    "Pair(0.25,0.5)",
    "types.SimpleNamespace(value=0.5)",
]

# `x` are images, float32; `b` the same as uint8; `y` class ids, int32; `w` sample weights, float32; `m` a mask, int32.
IMAGES = [
    "x",
    "x.copy('F')",
    "x[::-1]",
    "x[:,::-1]",
    "np.repeat(x,2,axis=2)[:,:,::2]",
    "readonly(x)",
    "x.astype('float16')",
    "x.astype('float64')",
    "x.astype('longdouble')",
    "x.astype('>f4')",
    "x.astype('>f8')",
    "x.astype('>f2')",
    "x>0.5",
    "b",
    "b.astype('int8')",
    "b.astype('int16')",
    "b.astype('int32')",
    "b.astype('int64')",
    "b.astype('uint16')",
    "b.astype('uint32')",
    "b.astype('uint64')",
    "b.astype('>i4')",
    "b.astype('>u2')",
    "b.astype('>i8')",
    "x+0j",
    "x.astype('complex64')+1j",
    "x.astype(object)",
    "b.astype('S3')",
    "x.astype(str)",
    "structured(x)",
    "b.astype('m8[s]')",
    "b.astype('M8[s]')",
    "full('nan')",
    "full('inf')",
    "full('-inf')",
    "full(3e38)",
    "full(-3e38)",
    "full(1e-45)",
    "full(65504,'float16')",
    "full(1e308,'float64')",
    "limits('int8')",
    "limits('int16')",
    "limits('int32')",
    "limits('int64')",
    "limits('uint8')",
    "limits('uint16')",
    "limits('uint32')",
    "limits('uint64')",
    "some_nan(x)",
    "some_inf(x)",
    "x[0]",
    "x[0,0]",
    "x[0,0,0]",
    "x[0,0,0,0]",
    "np.float32(1)",
    "x[None]",
    "x[None,None]",
    "x[:0]",
    "x[:,:0]",
    "x[:,:,:0]",
    "x[...,:0]",
    "x[...,:1]",
    "x[:1]",
    "x[:,:1]",
    "x[:,:,:1]",
    "x[:,:1,:1]",
    "x[...,:2]",
    "np.moveaxis(x,-1,1)",
    "x[...,0]",
    "x.tolist()",
    "x[0].tolist()",
    "np.ma.masked_array(x,x>0.5)",
    "ops.convert_to_tensor(x)",
    "keras.Variable(x)",
    "foreign(x)",
    "memoryview(x)",
]
FORMS = [
    "[x]",
    "(x,)",
    "(x,None)",
    "(x,y)",
    "[x,y]",
    "(x,y,None)",
    "(x,y,w)",
    "[x,y,w]",
    "(x,y,w,w)",
    "Triple(x,y,w)",
    "{'images':x}",
    "{'images':x,'labels':y}",
    "{'images':x,'labels':y,'sample_weights':w}",
    "OrderedDict(images=x,labels=y)",
    "{'images':x,'labels':None}",
    "list(x)",
    "list(x[:3])",
    "list(x[:2])",
    "tuple(x)",
    "tuple(x[:3])",
    "[x[:2],x[2:]]",
    "[x,x]",
    "{}",
    "[]",
    "()",
    "{'image':x}",
    "{'images':None}",
    "{0:x}",
    "{'images':x,'label':y}",
    "{'images':x,'labels':y,'sample_weight':w}",
    "{'images':x,'labels':y,'weights':w}",
    "{'images':x,'labels':y,'image_id':y}",
    "{'images':x,'labels':y,'segmentation_mask':m}",
    "{'images':x,'labels':y,'keypoints':x[:,:2,:2,0]}",
    "{'images':x,'labels':y,1:y}",
    "{'images':x,'labels':y,'path':np.array(list('abcd'))}",
    "{'images':x,'labels':y,'note':'text'}",
    "{'images':x,'labels':y,'nothing':None}",
    "{'images':[x],'labels':y}",
    "{'images':{'a':x},'labels':y}",
    "None",
    "'x'",
    "b'x'",
    "3",
    "0.5",
    "True",
    "object()",
    "int",
    "iter([x])",
    "(i.mean()for(i)in(x))",
    "range(4)",
    "set()",
    "Fraction(1,2)",
    "10**400",
    "pil()",
    "[pil()]*4",
    "(pil(),1)",
    "np.array([None]*4)",
    "sparse(x)",
    "ragged(x)",
    "[[x]]",
    "[None]",
    "(None,y)",
    "[x.tolist(),y.tolist()]",
    "(x.tolist(),y)",
    "(x,'y')",
    "(x,object())",
    "(x,[None]*4)",
    "lambda:x",
]
LABELS = [
    "y",
    "y.tolist()",
    "tuple(y.tolist())",
    "y[:,None]",
    "y[:,None].tolist()",
    "y.astype('int8')",
    "y.astype('int16')",
    "y.astype('int64')",
    "y.astype('uint8')",
    "y.astype('uint16')",
    "y.astype('uint32')",
    "y.astype('uint64')",
    "y.astype('>i4')",
    "y.astype('>i8')",
    "y.astype('float32')",
    "y.astype('float64')",
    "y.astype('float16')",
    "y.astype('longdouble')",
    "y>1",
    "y+0j",
    "y+1j",
    "y.astype(object)",
    "y.astype(str)",
    "y.astype('S2')",
    "structured(y)",
    "y-1",
    "y+4",
    "y+1",
    "y+250",
    "y.astype('int64')+2**31",
    "y.astype('int64')+2**32",
    "y.astype('uint64')+2**32",
    "y.astype('uint64')+2**63",
    "y.astype('int64')-2**32",
    "y*float('nan')",
    "y+0.5",
    "y*float('inf')",
    "y*1e30",
    "onehot",
    "onehot.astype('int32')",
    "onehot.astype('bool')",
    "onehot.astype('float16')",
    "onehot.astype('float64')",
    "onehot.astype('uint8')",
    "onehot*0.7+0.075",
    "onehot*2-1",
    "onehot*float('nan')",
    "onehot*0",
    "onehot[:,:3]",
    "onehot[:,:0]",
    "onehot[...,None]",
    "onehot[:,None]",
    "onehot.tolist()",
    "y[:2]",
    "y[:0]",
    "y[:1]",
    "1",
    "1.5",
    "np.int32(1)",
    "np.array(1)",
    "[1]",
    "'labels'",
    "None",
    "[None]*4",
    "{}",
    "[]",
    "{'a':y}",
    "{'a':y,'b':onehot}",
    "[y,onehot]",
    "(y,y)",
    "{'a':y[:2]}",
    "{'boxes':boxes,'classes':c}",
    "m",
    "m.astype('uint8')",
    "m.astype('int64')",
    "m.astype('float32')",
    "m[...,None]",
    "void(m)",
    "m.astype('int64')+2**31",
    "m.astype('int64')+2**32",
    "m.astype('uint64')+2**63",
    "m>1",
    "m[:2]",
    "m[:,:3]",
    "np.eye(4)[m]",
    "np.eye(4,dtype='float32')[m]",
    "np.moveaxis(m,1,2)",
    "sparse(onehot)",
    "ragged(onehot)",
    "object()",
    "int",
    "iter(y)",
    "ops.convert_to_tensor(y)",
    "ops.convert_to_tensor(onehot)",
    "foreign(y)",
    "np.ma.masked_array(y,y>2)",
    "10**400",
    "[10**400]*4",
    "[2**32+1]*4",
    "[2**31]*4",
    "[1.0,2.0,3.0,0.0]",
    "[True,False,True,False]",
    "['a','b','c','d']",
    "Fraction(1,2)",
    "[Fraction(1,2)]*4",
]
WEIGHTS = [
    "w",
    "w.tolist()",
    "w[:,None]",
    "w.astype('float64')",
    "w.astype('float16')",
    "w.astype('longdouble')",
    "w.astype('>f4')",
    "y",
    "y>1",
    "w+0j",
    "w+1j",
    "w.astype(object)",
    "w.astype(str)",
    "w*float('nan')",
    "w*float('inf')",
    "-w",
    "w*0",
    "w*1e30",
    "w[:2]",
    "w[:0]",
    "w[:1]",
    "1.0",
    "2",
    "np.float32(1)",
    "'w'",
    "[None]*4",
    "{}",
    "[]",
    "[w]",
    "{'a':w}",
    "m.astype('float32')",
    "m.astype('float32')[...,None]",
    "np.ones((4,2,2),'float32')",
    "w.astype('uint64')",
    "object()",
    "sparse(onehot)",
    "10**400",
    "y.astype('int64')+2**40",
    "y.astype('uint64')+2**63",
    "structured(w)",
    "foreign(w)",
    "[10**400]*4",
    "True",
    "iter(w)",
]
MASKS = [
    "m",
    "m[...,None]",
    "m.astype('uint8')",
    "m.astype('int64')",
    "m.astype('uint64')",
    "m.astype('>i2')",
    "m.astype('float32')",
    "m.astype('float64')",
    "m>1",
    "m+0j",
    "m.astype(object)",
    "m.astype(str)",
    "void(m)",
    "m[:2]",
    "m[:,:3]",
    "m[:,:,:3]",
    "m[0]",
    "m[...,None,None]",
    "m.tolist()",
    "'mask'",
    "3",
    "{}",
    "{'a':m}",
    "[m]",
    "np.eye(4,dtype='float32')[m]",
    "m-1",
    "m+250",
    "m.astype('int64')+2**31",
    "m.astype('int64')+2**40",
    "m*float('nan')",
    "structured(m)",
    "object()",
    "sparse(m)",
]
BOXES = [
    "{'boxes':boxes,'classes':c}",
    "{'boxes':boxes,'labels':c}",
    "{'boxes':boxes.astype('float64'),'classes':c}",
    "{'boxes':boxes.astype('int32'),'classes':c}",
    "{'boxes':boxes,'classes':c.astype('float32')}",
    "{'boxes':boxes}",
    "{'classes':c}",
    "{}",
    "boxes",
    "[boxes,c]",
    "(boxes,c)",
    "{'boxes':boxes[:2],'classes':c}",
    "{'boxes':boxes,'classes':c[:2]}",
    "{'boxes':boxes[...,:3],'classes':c}",
    "{'boxes':boxes[:,0],'classes':c}",
    "{'boxes':boxes[:,:0],'classes':c[:,:0]}",
    "{'boxes':boxes*float('nan'),'classes':c}",
    "{'boxes':boxes+0j,'classes':c}",
    "{'boxes':'boxes','classes':c}",
    "{'boxes':boxes,'classes':'c'}",
    "{'boxes':None,'classes':c}",
    "{'boxes':boxes,'classes':None}",
    "{'boxes':boxes,'classes':c,'scores':c}",
    "{'boxes':boxes,'classes':c,'labels':c}",
    "{'boxes':boxes,'classes':c,'note':'text'}",
    "{'boxes':boxes.tolist(),'classes':c.tolist()}",
    "'boxes'",
    "3",
    "object()",
    "ragged(boxes[...,0])",
    "{'boxes':boxes.astype(object),'classes':c}",
    "{'boxes':boxes,'classes':c+0j}",
    "{'boxes':boxes[0],'classes':c[0]}",
]
INDEX = [
    "None",
    "0",
    "1",
    "7",
    "-1",
    "0.0",
    "1.0",
    "0.9",
    "float('nan')",
    "float('inf')",
    "True",
    "False",
    "2**31",
    "2**32",
    "2**63",
    "2**64",
    "10**400",
    "np.int64(1)",
    "np.uint8(1)",
    "np.uint64(2**63)",
    "np.float32(1)",
    "np.float32(0.5)",
    "np.array(1)",
    "np.array([1])",
    "np.array([1,2])",
    "np.array(-1)",
    "ops.convert_to_tensor(1)",
    "ops.convert_to_tensor(0.9)",
    "'1'",
    "[1]",
    "(1,)",
    "{}",
    "1+0j",
    "Fraction(1,2)",
    "Decimal(1)",
    "object()",
    "int",
    "np.True_",
    "b'1'",
]
TRAINING = [
    "True",
    "False",
    "None",
    "0",
    "1",
    "np.True_",
    "np.False_",
    "np.array(False)",
    "'no'",
    "'yes'",
    "0.5",
    "2",
    "float('nan')",
    "[]",
    "{}",
    "object()",
    "[False]",
    "int",
]
LOGS = [
    "0.5",
    "1",
    "0",
    "True",
    "np.float32(0.5)",
    "np.float16(0.5)",
    "np.longdouble(0.5)",
    "np.int64(1)",
    "np.array(0.5)",
    "np.array([0.5])",
    "np.array([[0.5]])",
    "np.array([0.5,1.0])",
    "np.array([])",
    "ops.convert_to_tensor(0.5)",
    "ops.convert_to_tensor([0.5])",
    "ops.convert_to_tensor([0.5,1.0])",
    "[0.5]",
    "[0.5,1.0]",
    "None",
    "'some'",
    "'0.5'",
    "1+2j",
    "float('nan')",
    "float('inf')",
    "-float('inf')",
    "1e308",
    "10**400",
    "Fraction(1,2)",
    "Decimal('0.5')",
    "{}",
    "object()",
    "{'a':0.5}",
]

Pair = collections.namedtuple("Pair", "low high")
Triple = collections.namedtuple("Triple", "images labels weights")


def batch():
    """The arrays that the expressions of calls are written in."""
    rng = np.random.default_rng(7)
    y = np.arange(COUNT, dtype="int32")
    corners = np.sort(rng.random((COUNT, 2, 2, 2)), axis=2)
    return {
        "x": rng.random((COUNT, HEIGHT, WIDTH, CHANNELS), "float32"),
        "b": rng.integers(0, 100, (COUNT, HEIGHT, WIDTH, CHANNELS), "uint8"),
        "y": y,
        "w": np.linspace(0.5, 2, COUNT, dtype="float32"),
        "m": rng.integers(0, 4, (COUNT, HEIGHT, WIDTH), "int32"),
        "c": rng.integers(0, 4, (COUNT, 2), "int32"),
        "onehot": np.eye(4, dtype="float32")[y],
        "boxes": np.concatenate([corners[:, :, 0], corners[:, :, 1]], -1).astype("float32"),
    }


def _full(value, dtype="float32"):
    return np.full((COUNT, HEIGHT, WIDTH, CHANNELS), np.dtype(dtype).type(value))


def _limits(dtype):
    """Least and most in turn."""
    info = np.iinfo(dtype)
    return np.where(batch()["x"] > 0.5, np.dtype(dtype).type(info.max), np.dtype(dtype).type(info.min))


def _with(value):
    def put(array):
        array = array.copy()
        array[1, 2, 3, 0] = value
        return array

    return put


def _structured(array):
    return array.astype([("value", "f4")])


def _readonly(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def _void(mask):
    mask = mask.copy()
    mask[:, 0] = 255
    return mask


def _pil():
    from PIL import Image

    return Image.new("RGB", (WIDTH, HEIGHT))


def _sparse(array):
    if BACKEND == "torch":
        import torch

        return torch.as_tensor(array).to_sparse()
    if BACKEND == "jax":
        from jax.experimental import sparse

        return sparse.BCOO.fromdense(array)
    import tensorflow as tf

    return tf.sparse.from_dense(array)


def _ragged(array):
    import tensorflow as tf

    return tf.ragged.stack([row[: index + 1] for index, row in enumerate(array)])


def _foreign(array):
    """A tensor of another installed framework than the backend's; the array itself where there is no other."""
    if FOREIGN == "torch":
        import torch

        return torch.as_tensor(array)
    if FOREIGN == "tensorflow":
        import tensorflow as tf

        return tf.convert_to_tensor(array)
    if FOREIGN == "jax":
        import jax.numpy as jnp

        return jnp.asarray(array)
    return array


def names():
    """What the expressions may name, all of it fresh."""
    return {
        **batch(), "np": np, "keras": keras, "ops": keras.ops, "keras_reg": keras_reg, "types": types, "Pair": Pair,
        "Triple": Triple, "Fraction": fractions.Fraction, "Decimal": decimal.Decimal, "full": _full, "limits": _limits,
        "OrderedDict": collections.OrderedDict, "some_nan": _with(np.nan), "some_inf": _with(np.inf), "void": _void,
        "structured": _structured, "readonly": _readonly, "pil": _pil, "sparse": _sparse, "ragged": _ragged,
        "foreign": _foreign,
    }  # fmt: skip


def value_of(expression):
    """A fresh object."""
    with np.errstate(all="ignore"):
        return eval(expression, names())
